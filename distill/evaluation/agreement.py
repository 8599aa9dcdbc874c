"""Agreement of two readers on the same words: who read what the other did not, and McNemar's exact test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill.evaluation.metrics import mcnemar


@dataclass(frozen=True)
class Agreement:
    """Words by who read them; agreements over disjoint words add up."""

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
        """All of them."""
        return self.both + self.only_a + self.only_b + self.neither


@dataclass(frozen=True)
class Pair:
    """Two readers on the same words, set by set."""

    a: str
    b: str
    sets: dict[str, Agreement]
    """Every set."""
    total: Agreement
    """Over the sets that averages are taken over."""
    alike: bool = True
    """Whether both read openly, or both choose from a lexicon; else the counts are no test of which is better."""

    @property
    def p(self) -> float | None:
        """McNemar's exact p; None for readers whose tasks differ."""
        return mcnemar(self.total.only_a, self.total.only_b) if self.alike else None


def agreement(a: Sequence[bool], b: Sequence[bool]) -> Agreement:
    """Count words by who was right.

    Raises:
        ValueError: when there are not as many words of one as of the other.
    """
    both = list(zip(a, b, strict=True))
    return Agreement(*(both.count(case) for case in ((True, True), (True, False), (False, True), (False, False))))
