"""The overlap check of a comparison: are test words among the training words?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data.overlap import find_overlaps
from distill.data.trees import open_all
from distill.evaluation.benchmarks import Benchmark
from students.errors import UserError


@dataclass(frozen=True)
class OverlapCheck:
    """What the overlap check found of the test words among training words."""

    against: str
    """The training tree that was searched."""
    found: tuple[str, ...]
    """One line for each test word that is there too."""


def check_overlap(benchmarks: Sequence[Benchmark], against: Path, cache: Path | None = None) -> OverlapCheck:
    """Search a training tree for the pictures of test sets, by content and by perceptual hash.

    Each picture is named once, also when two sets have it.

    Args:
        benchmarks: the test sets.
        against: the training tree.
        cache: where fingerprints are kept; None takes the user's cache.

    Raises:
        UserError: when there is no such tree.
    """
    overlaps = find_overlaps(against, [benchmark.records for benchmark in benchmarks], cache)
    lines = (f"{overlap.test} ({overlap.label}) is {overlap.train} too: {overlap.kind}" for overlap in overlaps)
    return OverlapCheck(str(against), tuple(dict.fromkeys(lines)))


def find_training(data: Path, against: Path | None) -> Path | None:
    """Give the training tree to search: the one that was named, else DATA/train when words lie there.

    Raises:
        UserError: when the one that was named holds no words.
    """
    if against is not None:
        open_all(against)
        return against
    try:
        open_all(data / "train")
    except UserError:
        return None
    return data / "train"
