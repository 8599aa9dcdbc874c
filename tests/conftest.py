"""What every test starts from: one thread, the same random numbers, and the folder that may be absent."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.browsing import Browser, NoBrowserError, open_browser

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Start every test from the same random numbers, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  libraries under test draw from the global generator
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def loggers() -> None:
    """Let every logger speak: libraries that configure logging silence all that are there before."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real words (`data/`), which is no part of the repository."""
    folder = Path(os.environ.get("SYMDISTILL_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no real words in {folder}; set SYMDISTILL_SHARED to the folder that holds data/ and reference/")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium without a window; tests are skipped where there is none."""
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(open_browser())
        except NoBrowserError as reason:
            pytest.skip(str(reason))
        yield opened
