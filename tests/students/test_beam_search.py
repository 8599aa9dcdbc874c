"""Prefix beam search: exact when it follows everything, and a lower bound when it doesn't."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby, product

import numpy as np
import pytest

from students.beam_search import beam_search


def every_path(probabilities: np.ndarray, blank: int, merged: Sequence[int] = range(9)) -> dict[tuple[int, ...], float]:
    """Add up the probabilities of all paths by the word that each spells."""
    words: dict[tuple[int, ...], float] = defaultdict(float)
    for path in product(range(probabilities.shape[1]), repeat=len(probabilities)):
        word = tuple(merged[token] for token, _ in groupby(path) if token != blank)
        words[word] += float(np.prod(probabilities[range(len(path)), path]))
    return words


@pytest.mark.parametrize("blank", [0, 2])
@pytest.mark.parametrize("columns", [1, 2, 6])
def test_a_beam_without_limits_is_every_path(columns: int, blank: int) -> None:
    probabilities = np.random.default_rng(columns).dirichlet([0.5] * 4, columns)
    found, expected = beam_search(probabilities, blank, width=10**6, least=0.0), every_path(probabilities, blank)
    assert sum(found.values()) == pytest.approx(1, abs=1e-12)
    assert found.keys() == expected.keys()
    assert all(found[word] == pytest.approx(expected[word], abs=1e-12) for word in expected)


@pytest.mark.parametrize("columns", [1, 2, 5])
def test_cases_are_merged_in_words_and_not_in_columns(columns: int) -> None:
    probabilities = np.random.default_rng(columns).dirichlet([0.5] * 5, columns)
    merged = [0, 1, 2, 1, 2]  # blank, a, b, A, B
    found = beam_search(probabilities, 0, np.array(merged), width=10**6, least=0.0)
    expected = every_path(probabilities, 0, merged)
    assert found.keys() == expected.keys()
    assert all(found[word] == pytest.approx(expected[word], abs=1e-12) for word in expected)


def test_a_narrow_beam_keeps_the_likeliest_and_promises_no_more_than_they_have() -> None:
    probabilities = np.random.default_rng(0).dirichlet([0.2] * 5, 7)
    found, expected = beam_search(probabilities, 0, width=8), every_path(probabilities, 0)
    assert len(found) == 8
    assert max(found, key=found.__getitem__) == max(expected, key=expected.__getitem__)
    assert all(0 < found[word] <= expected[word] + 1e-12 for word in found)


def test_classes_that_are_next_to_impossible_are_left_out() -> None:
    probabilities = np.array([[0.4, 0.5996, 0.0004], [0.9996, 0.0, 0.0004]])
    assert beam_search(probabilities, 0).keys() == {(), (1,)}
