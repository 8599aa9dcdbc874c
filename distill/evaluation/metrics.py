"""Metrics: words read right, 1-NED, the Wilson interval, and McNemar's exact test (METHOD 1.6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

Z_95 = 1.959963984540054
"""Two-sided 95% quantile of the normal distribution."""


@dataclass(frozen=True)
class Tally:
    """Counts over words; tallies of disjoint words add up."""

    words: int = 0
    """Words scored."""
    hits: int = 0
    """Words that were read exactly."""
    one_minus_ned_sum: float = 0.0
    """Sum over words of 1 - edit distance / length of the longer string."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.words + other.words, self.hits + other.hits, self.one_minus_ned_sum + other.one_minus_ned_sum)

    @property
    def accuracy(self) -> float:
        """Words right, percent; 0 without words."""
        return percent(self.hits, self.words)

    @property
    def one_minus_ned(self) -> float:
        """1-NED, percent; 0 without words."""
        return percent(self.one_minus_ned_sum, self.words)

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the accuracy, percent."""
        return wilson(self.hits, self.words)


def tally(predictions: Sequence[str], labels: Sequence[str]) -> Tally:
    """Score adapted predictions against cleaned labels, one by one.

    Raises:
        ValueError: when there are not as many predictions as labels.
    """
    similarities = [similarity(read, label) for read, label in zip(predictions, labels, strict=True)]
    hits = sum(read == label for read, label in zip(predictions, labels, strict=True))
    return Tally(len(similarities), hits, math.fsum(similarities))


def similarity(prediction: str, label: str) -> float:
    """Give 1 - edit distance / length of the longer string: 1 for equal strings, 0 when nothing agrees."""
    return 1.0 - Levenshtein.normalized_distance(prediction, label)


def percent(part: float, whole: int) -> float:
    """Give a share in percent; 0 of nothing is 0."""
    return 100.0 * part / whole if whole else 0.0


def wilson(hits: int, words: int, z: float = Z_95) -> tuple[float, float]:
    """Give Wilson's score interval of a share in percent (Wilson 1927); (0, 100) without words."""
    if words == 0:
        return 0.0, 100.0
    share, weight = hits / words, z * z / words
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / words + weight / (4 * words))
    # At 0 and at all hits the bound is exact; rounding must not push it past the share itself.
    low = 0.0 if hits == 0 else centre - half
    high = 1.0 if hits == words else centre + half
    return 100.0 * low, 100.0 * high


def mcnemar(only_a: int, only_b: int) -> float:
    """Give McNemar's exact two-sided p: how likely a split at least this uneven is when both read equally well.

    Args:
        only_a: words that only the first reader read.
        only_b: words that only the second reader read.
    """
    trials, fewer = only_a + only_b, min(only_a, only_b)
    tail = term = 1
    for successes in range(fewer):
        term = term * (trials - successes) // (successes + 1)
        tail += term
    # Whole numbers throughout: 2 ** -7248 is no float, the quotient is.
    return min(1.0, 2 * tail / 2**trials)
