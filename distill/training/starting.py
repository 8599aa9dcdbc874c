"""A trained reader to start from, with its own alphabet and longest word or with others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from students.charset import Charset
from students.reading import Reader
from students.remap import remap

Say = Callable[[str], None]
"""Takes a line that the user should see."""
AnyReader = TypeVar("AnyReader", bound=Reader)


def restart(reader: AnyReader, folder: str, charset: str, max_length: int, seed: int, say: Say) -> AnyReader:
    """Give a trained reader another alphabet and longest word, row by row.

    Args:
        reader: left as it is.
        folder: shipped name or folder that it comes from.
        charset: the alphabet that is wanted, as configured.
        max_length: the longest word that is wanted.
        seed: of rows that are new, the same on every process.
        say: told which rows are new.

    Raises:
        UserError: when there is no such alphabet.
    """
    wanted = Charset.load(charset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made, report = remap(reader, wanted, max_length)
    say(f"{folder} for {len(wanted.characters)} characters: {report.describe()}")
    return made
