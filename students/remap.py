"""Another alphabet or another longest word for a trained reader: rows move with their characters and positions.

Whatever has a row for a character (heads, embeddings) or a position (queries) is laid out anew: a character keeps its
row wherever its number goes, the end, start and padding keep theirs. All else stays as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from students.charset import Charset
from students.reading import Reader
from students.two_stream import CharacterDecoder

AnyReader = TypeVar("AnyReader", bound=Reader)

CLASSES = ("head.weight", "head.bias", "column_head.weight", "column_head.bias")
"""What a decoder has a row in for the end and each character."""
TOKENS = "text_embed.embedding.weight"
"""What it has a row in for the end, each character, start and padding."""
POSITIONS = "pos_queries"
"""What it has a row in for each position, along its second dimension."""


@dataclass(frozen=True)
class Remapping:
    """What became of a reader's rows."""

    kept: int
    """Characters that kept their rows."""
    new: str
    """Characters whose rows are new and were drawn at random."""
    cased: str
    """Characters whose rows are new and start as copies of their other case."""
    dropped: str
    """Characters whose rows are gone."""
    longest: tuple[int, int]
    """Longest word before and now."""

    def describe(self) -> str:
        """Say it in one line."""
        told = [f"{self.kept} characters keep their rows"]
        if self.new:
            told.append(f"new are {self.new}")
        if self.cased:
            told.append(f"new, starting as their other case, are {self.cased}")
        if self.dropped:
            told.append(f"gone are {self.dropped}")
        before, now = self.longest
        if now > before:
            told.append(f"positions {before + 2} to {now + 1} are new")  # counted from 1, the end's among them
        elif now < before:
            told.append(f"positions {now + 2} to {before + 1} are gone")
        return "; ".join(told)


def remap(reader: AnyReader, charset: Charset, max_length: int) -> tuple[AnyReader, Remapping]:
    """Build the same reader for another alphabet and longest word; new rows come from torch's global generator.

    Args:
        reader: left as it is.
        charset: the alphabet that is wanted.
        max_length: the longest word that is wanted, in characters.

    Raises:
        UserError: for a longest word that no reader can have.
    """
    config = dataclasses.replace(reader.config, charset=charset.characters, max_length=max_length)
    made = type(reader)(config)
    old, new = reader.charset, charset
    source = [_origin(char, old) for char in new.characters]
    classes = [old.end_id, *source]
    tokens = [*classes, old.start_id, old.pad_id]
    positions = [place if place <= reader.max_length else -1 for place in range(max_length + 1)]
    fresh = made.state_dict()
    moved = dict(_layouts(made, classes, tokens))
    for name, rows in reader.state_dict().items():
        if name in moved:
            fresh[name] = _take(rows, fresh[name], moved[name])
        elif name.endswith(POSITIONS):
            fresh[name] = _take(rows[0], fresh[name][0], positions)[None]
        else:
            fresh[name] = rows
    made.load_state_dict(fresh)
    pairs = list(zip(new.characters, source, strict=True))
    report = Remapping(
        kept=sum(char in old.ids for char in new.characters),
        new="".join(char for char, row in pairs if row < 0),
        cased="".join(char for char, row in pairs if row >= 0 and char not in old.ids),
        dropped="".join(char for char, row in old.ids.items() if row not in source),
        longest=(reader.max_length, max_length),
    )
    return made.train(reader.training), report


def _origin(char: str, old: Charset) -> int:
    """Give the token id that a character's rows come from; -1 for none."""
    found = old.counterpart(char)
    return -1 if found is None else old.ids[found]


def _layouts(reader: Reader, classes: list[int], tokens: list[int]) -> Iterator[tuple[str, list[int]]]:
    """Name the weights with rows for characters, and say which old row each new one comes from."""
    for place, part in reader.named_modules():
        if isinstance(part, CharacterDecoder):
            start = f"{place}." if place else ""
            yield from ((start + name, classes) for name in CLASSES)
            yield start + TOKENS, tokens


def _take(rows: Tensor, fresh: Tensor, origins: list[int]) -> Tensor:
    """Lay rows out anew: (A, ...) to (B, ...), with a fresh row where there is no origin."""
    places = torch.tensor(origins, device=rows.device)
    known = (places >= 0).view(-1, *[1] * (rows.ndim - 1))
    return torch.where(known, rows[places.clamp(min=0)], fresh.to(rows))
