"""The leak guard of a comparison: are test words among the training words?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data.leaks import find_leaks
from distill.data.trees import find_all
from distill.evaluation.benchmarks import Benchmark
from students.errors import UserError


@dataclass(frozen=True)
class LeakCheck:
    """What the leak guard found of the test words among training words."""

    against: str
    """The training tree that was searched."""
    found: tuple[str, ...]
    """One line for each test word that is there too."""


def check_leaks(benchmarks: Sequence[Benchmark], against: Path, cache: Path | None = None) -> LeakCheck:
    """Search a training tree for the pictures of test sets, by content and by perceptual hash.

    Each picture is named once, also when two sets have it.

    Args:
        benchmarks: the test sets.
        against: the training tree.
        cache: where fingerprints are kept; None takes the user's cache.

    Raises:
        UserError: when there is no such tree.
    """
    leaks = find_leaks(against, [benchmark.records for benchmark in benchmarks], cache)
    lines = (f"{leak.test} ({leak.label}) is {leak.train} too: {leak.kind}" for leak in leaks)
    return LeakCheck(str(against), tuple(dict.fromkeys(lines)))


def find_training(data: Path, against: Path | None) -> Path | None:
    """Give the training tree to search: the one that was named, else DATA/train when words lie there.

    Raises:
        UserError: when the one that was named holds no words.
    """
    if against is not None:
        find_all(against)
        return against
    try:
        find_all(data / "train")
    except UserError:
        return None
    return data / "train"
