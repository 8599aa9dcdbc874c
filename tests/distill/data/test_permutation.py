"""Permutation: a bijection of any length, another for each key, that looks random and weighs nothing."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.permutation import Permutation


def order(length: int, *key: int) -> list[int]:
    return Permutation(length, key)(np.arange(length)).tolist()


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1000, 1024, 4096, 4099, 65537])
def test_every_word_stands_at_one_place(length: int) -> None:
    for epoch in range(3):
        assert sorted(order(length, 1, 0, epoch)) == list(range(length))


@given(length=st.integers(1, 2**61), key=st.integers(0, 2**32), start=st.integers(0, 2**61))
@settings(max_examples=50, deadline=None)
def test_places_of_the_longest_orders_stay_apart(length: int, key: int, start: int) -> None:
    places = np.unique((start + np.arange(100)) % length)
    found = Permutation(length, (key,))(places)
    assert len(np.unique(found)) == len(places)
    assert 0 <= found.min() <= found.max() < length


def test_another_key_gives_another_order() -> None:
    keys = [(1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0)]
    orders = [order(4099, *key) for key in keys]
    assert orders[0] == order(4099, *keys[0])
    for number, one in enumerate(orders):
        for other in orders[:number]:
            assert sum(a == b for a, b in zip(one, other, strict=True)) < 12, "as often as by chance, about once"


def test_all_orders_of_a_few_words_are_as_frequent() -> None:
    drawn = [tuple(order(3, seed, epoch)) for seed in range(20) for epoch in range(60)]
    counts = [drawn.count(each) for each in set(drawn)]
    assert len(counts) == 6
    assert sum((count - 200) ** 2 / 200 for count in counts) < 20.5, "chi-square of 5 degrees, 99.9%"


def test_neighbours_are_scattered() -> None:
    length = 10_007
    drawn = np.stack([Permutation(length, (5, epoch))(np.arange(length)) for epoch in range(4)])
    for row in drawn:
        assert abs(np.corrcoef(row[:-1], row[1:])[0, 1]) < 0.04, "neighbours in the order"
        assert abs(np.corrcoef(row, np.arange(length))[0, 1]) < 0.04, "place and word"
        assert (np.abs(np.diff(row)) == 1).sum() < 12
        pairs = np.histogram2d(row[:-1], row[1:], 10)[0]
        assert ((pairs - pairs.mean()) ** 2 / pairs.mean()).sum() < 149, "chi-square of 99 degrees, 99.9%"
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.04, "epochs"


def test_its_size_does_not_depend_on_the_length() -> None:
    small, large = Permutation(10, (1,)), Permutation(10**12, (1,))
    large(np.arange(1000))
    assert len(pickle.dumps(large)) <= len(pickle.dumps(small)) + 16


def test_an_order_stays_what_it_is() -> None:
    expected = [2988035, 3361511, 3825620, 1691774, 6665246, 1006626, 7516097, 2437724, 8978910]
    assert Permutation(10**7, (3, 1, 4))(np.arange(9)).tolist() == expected, "or resumed runs would read other words"
