from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.evaluation.metrics import Agreement, Tally, mcnemar, tally, wilson


@pytest.mark.parametrize(
    ("hits", "words", "low", "high"),
    [(8, 10, 49.02, 94.33), (0, 10, 0.0, 27.75), (10, 10, 72.25, 100.0), (1, 29, 0.61, 17.18), (81, 263, 25.53, 36.62)],
)  # the last two: Newcombe 1998, table I, method 3
def test_wilson_interval(hits: int, words: int, low: float, high: float) -> None:
    assert wilson(hits, words) == pytest.approx((low, high), abs=0.005)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share(counts: tuple[int, int]) -> None:
    hits, words = counts
    low, high = wilson(hits, words)
    assert 0 <= low <= 100 * hits / words <= high <= 100


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 1, 1.0), (0, 5, 0.0625), (1, 9, 22 / 1024), (5, 15, 0.04138947)],
)
def test_mcnemar_is_the_exact_binomial_test(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(p, abs=1e-8)
    assert mcnemar(only_b, only_a) == mcnemar(only_a, only_b)


def test_mcnemar_copes_with_many_words() -> None:
    assert mcnemar(3700, 3548) == pytest.approx(math.erfc(151 / math.sqrt(7248) / math.sqrt(2)), rel=1e-3)
    assert mcnemar(0, 3000) == 0.0


def test_tallies_add_up() -> None:
    first, second = tally(["a", "bc"], ["a", "bd"]), tally(["", "x"], ["abc", "x"])
    assert first + second == Tally(4, 2, 2.5, 2)
    assert (first + second).accuracy == 50.0
    assert (first + second).one_minus_ned == 62.5
    assert Tally().accuracy == 0.0


def test_predictions_and_labels_must_pair() -> None:
    with pytest.raises(ValueError, match="zip"):
        tally(["a"], ["a", "b"])


def test_lines_are_scored_with_their_spaces_and_without() -> None:
    lines = tally(["open all day", "openall day", "open day", "open all day"], ["open all day"] * 3 + ["open all dry"])
    assert (lines.hits, lines.hits_without_spaces) == (1, 2)
    assert lines.accuracy_without_spaces == 50
    assert lines.one_minus_ned_sum == pytest.approx(1 + 11 / 12 + 8 / 12 + 11 / 12)
    assert (lines + lines).hits_without_spaces == 4


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [((36, 12, 2, 0), 5.69, 34.04), ((1, 1, 7, 12), -50.7, -2.6)],
)  # Newcombe 1998, table II, method 10; Fagerland, Lydersen and Laake 2014, airway hyper-responsiveness
def test_paired_interval(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    assert Agreement(*counts).interval == pytest.approx((low, high), abs=0.05)


@given(st.tuples(*[st.integers(0, 3000)] * 4))
def test_paired_interval_holds_the_difference_and_turns_with_it(counts: tuple[int, int, int, int]) -> None:
    both, only_a, only_b, neither = counts
    pair, turned = Agreement(both, only_a, only_b, neither), Agreement(both, only_b, only_a, neither)
    low, high = pair.interval
    slack = 1e-9
    assert -100 - slack <= low <= pair.difference + slack
    assert pair.difference - slack <= high <= 100 + slack
    assert turned.interval == pytest.approx((-high, -low), abs=1e-9)
    assert turned.difference == -pair.difference
