"""Metrics: word accuracy, 1-NED, Wilson's interval; two readers on the same words: difference, McNemar's exact test.

They are defined in docs/method.md, section 1.6.
"""

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
    hits_without_spaces: int = 0
    """Words, or lines, that were read exactly but for their spaces."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.words + other.words, self.hits + other.hits, self.one_minus_ned_sum + other.one_minus_ned_sum,
            self.hits_without_spaces + other.hits_without_spaces,
        )  # fmt: skip

    @property
    def accuracy(self) -> float:
        """Word accuracy in percent; 0 without words."""
        return percent(self.hits, self.words)

    @property
    def accuracy_without_spaces(self) -> float:
        """Accuracy in percent when spaces don't count."""
        return percent(self.hits_without_spaces, self.words)

    @property
    def one_minus_ned(self) -> float:
        """1-NED in percent; 0 without words."""
        return percent(self.one_minus_ned_sum, self.words)

    @property
    def interval(self) -> tuple[float, float]:
        """95% Wilson interval of the accuracy in percent."""
        return wilson(self.hits, self.words)


def tally(predictions: Sequence[str], labels: Sequence[str]) -> Tally:
    """Score predictions against labels one by one, both after the rules of the alphabet.

    Raises:
        ValueError: when there are not as many predictions as labels.
    """
    similarities = [similarity(prediction, label) for prediction, label in zip(predictions, labels, strict=True)]
    hits = sum(prediction == label for prediction, label in zip(predictions, labels, strict=True))
    joined = sum(equal_without_spaces(prediction, label) for prediction, label in zip(predictions, labels, strict=True))
    return Tally(len(similarities), hits, math.fsum(similarities), joined)


def equal_without_spaces(prediction: str, label: str) -> bool:
    """Tell whether a line was read exactly but for its spaces."""
    return prediction.replace(" ", "") == label.replace(" ", "")


def similarity(prediction: str, label: str) -> float:
    """Return 1 - edit distance / length of the longer string: 1 for equal strings, 0 when nothing agrees."""
    return 1.0 - Levenshtein.normalized_distance(prediction, label)


def percent(part: float, whole: int) -> float:
    """Return a ratio in percent; 0 of nothing is 0."""
    return 100.0 * part / whole if whole else 0.0


def wilson(hits: int, words: int) -> tuple[float, float]:
    """Return Wilson's score interval of a ratio in percent (Wilson 1927); (0, 100) without words."""
    if words == 0:
        return 0.0, 100.0
    ratio, weight = hits / words, Z_95**2 / words
    centre = (ratio + weight / 2) / (1 + weight)
    half = Z_95 / (1 + weight) * math.sqrt(ratio * (1 - ratio) / words + weight / (4 * words))
    # At no hits and at all hits the bound is exact; rounding must not push it past the ratio itself.
    low = 0.0 if hits == 0 else centre - half
    high = 1.0 if hits == words else centre + half
    return 100.0 * low, 100.0 * high


def mcnemar(only_a: int, only_b: int) -> float:
    """Return McNemar's exact two-sided p: how likely a split at least this uneven is between equally good readers.

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


@dataclass(frozen=True)
class Agreement:
    """Words by which of two readers read them; agreements over disjoint words add up."""

    both: int = 0
    """Words that both read."""
    only_a: int = 0
    """Words that only the first read."""
    only_b: int = 0
    """Words that only the second read."""
    neither: int = 0
    """Words that neither read."""

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.both + other.both, self.only_a + other.only_a, self.only_b + other.only_b, self.neither + other.neither
        )

    @property
    def words(self) -> int:
        """Number of words."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def difference(self) -> float:
        """Accuracy of the first reader minus that of the second, in points; 0 without words."""
        return percent(self.only_a - self.only_b, self.words)

    @property
    def interval(self) -> tuple[float, float]:
        """95% score interval of the difference, in points; (-100, 100) without words.

        Both accuracies' Wilson intervals, joined with regard to how the two go together (Newcombe 1998, Statistics in
        Medicine 17, 2635-2650, method 10).
        """
        words, hits_a, hits_b = self.words, self.both + self.only_a, self.both + self.only_b
        if words == 0:
            return -100.0, 100.0
        margins = math.sqrt(hits_a * (words - hits_a)) * math.sqrt(hits_b * (words - hits_b))
        product = self.both * self.neither - self.only_a * self.only_b
        corrected = max(product - words / 2, 0.0) if product > 0 else float(product)
        phi = corrected / margins if margins else 0.0
        a, b = percent(hits_a, words), percent(hits_b, words)
        (low_a, high_a), (low_b, high_b) = wilson(hits_a, words), wilson(hits_b, words)

        def distance(one: float, other: float) -> float:
            return math.sqrt(max(one * one - 2 * phi * one * other + other * other, 0.0))

        return a - b - distance(a - low_a, high_b - b), a - b + distance(high_a - a, b - low_b)


def agreement(a: Sequence[bool], b: Sequence[bool]) -> Agreement:
    """Count words by which of two readers read them.

    Raises:
        ValueError: when there are not as many words of one as of the other.
    """
    both = list(zip(a, b, strict=True))
    return Agreement(*(both.count(case) for case in ((True, True), (True, False), (False, True), (False, False))))


@dataclass(frozen=True)
class Pair:
    """Two readers on the same words, set by set."""

    a: str
    b: str
    sets: dict[str, Agreement]
    """Every set."""
    total: Agreement
    """Over the sets that averages are taken over."""
    same_task: bool = True
    """Whether both read openly, or both choose from a lexicon; else the counts are no test of which is better."""

    @property
    def p(self) -> float | None:
        """McNemar's exact p; None for readers whose tasks differ."""
        return mcnemar(self.total.only_a, self.total.only_b) if self.same_task else None
