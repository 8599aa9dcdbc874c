"""Sampling: ratios, epochs, processes, positions; orders that are bijections and look random."""

from __future__ import annotations

import pickle
import time
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.sampling import Draw, MixedSampler, Permutation, draw_order
from students.errors import UserError


def take(sampler: MixedSampler, count: int) -> list[list[Draw]]:
    return list(islice(sampler, count))


def test_each_source_goes_through_its_permutations() -> None:
    batches = take(MixedSampler([7, 3], [0.5, 0.5], 4, seed=1), 12)
    for source, length in enumerate((7, 3)):
        drawn = [draw for batch in batches for draw in batch if draw.source == source]
        assert len(drawn) == 24
        for epoch in range(24 // length):
            one = drawn[epoch * length : (epoch + 1) * length]
            assert {draw.epoch for draw in one} == {epoch}
            assert sorted(draw.word for draw in one) == list(range(length))
    positions = np.arange(100)
    orders = [draw_order(100, *key)(positions).tolist() for key in ((1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0))]
    assert all(one != other for number, one in enumerate(orders) for other in orders[:number])


@given(
    ratios=st.lists(st.floats(0.01, 5), min_size=1, max_size=5),
    batch_size=st.integers(1, 40),
    world=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_ratios_are_met_on_every_process(ratios: list[float], batch_size: int, world: int) -> None:
    lengths = [50] * len(ratios)
    ranks = [
        take(MixedSampler(lengths, ratios, batch_size, rank=rank, world=world), 20) for rank in range(world)
    ]  # fmt: skip
    taken = np.zeros(len(ratios))
    for step, batches in enumerate(zip(*ranks, strict=True), start=1):
        counts = [Counter(draw.source for draw in batch) for batch in batches]
        assert all(len(batch) == batch_size for batch in batches)
        assert all(count == counts[0] for count in counts)
        taken += [counts[0][source] for source in range(len(ratios))]
        due = step * batch_size * np.asarray(ratios) / sum(ratios)
        assert np.abs(taken - due).max() < len(ratios)
    for source in range(len(ratios)):
        drawn = [draw for batches in ranks for batch in batches for draw in batch if draw.source == source]
        assert len(set(drawn)) == len(drawn), "no word twice in one epoch, over all processes"


def test_two_ratios_never_miss_by_a_word() -> None:
    taken = 0
    for step, batch in enumerate(take(MixedSampler([1000, 10], [0.7, 0.3], 32), 200), start=1):
        taken += sum(draw.source == 0 for draw in batch)
        assert abs(taken - step * 32 * 0.7) < 1


@given(
    ratios=st.lists(st.one_of(st.just(0.0), st.just(1.0), st.floats(0.001, 5)), min_size=1, max_size=6).filter(any),
    words=st.integers(0, 10**10),
)
@settings(max_examples=100, deadline=None)
def test_each_word_more_goes_to_one_source(ratios: list[float], words: int) -> None:
    sampler = MixedSampler([10] * len(ratios), ratios, 4)
    before, after = sampler.taken(words), sampler.taken(words + 1)
    assert before.sum() == words
    assert sorted(after - before) == [0] * (len(ratios) - 1) + [1]
    assert np.abs(before - words * sampler.ratios).max() < len(ratios)


def test_words_go_to_who_is_owed_most() -> None:
    sampler, counts = MixedSampler([10] * 4, [5, 3, 3, 0.5], 4), np.zeros(4)
    for words in range(300):
        assert sampler.taken(words).tolist() == counts.tolist()
        counts[np.argmax(sampler.ratios / (counts + 0.5))] += 1


def test_a_late_start_takes_no_longer() -> None:
    sampler = MixedSampler([10**9, 10**7, 3], [7, 2, 1], 256, rank=1, world=2, start_batch=10**7)
    started = time.process_time()
    batch = next(iter(sampler))
    assert time.process_time() - started < 0.5
    assert len(set(batch)) == 256


@pytest.mark.parametrize("start", [0, 1, 7, 23])
def test_a_resumed_sampler_goes_on_where_it_stopped(start: int) -> None:
    unbroken = take(MixedSampler([20, 9, 5], [3, 2, 1], 8, seed=4, rank=1, world=2), 40)
    assert (
        take(MixedSampler([20, 9, 5], [3, 2, 1], 8, seed=4, rank=1, world=2, start_batch=start), 9)
        == (unbroken[start : start + 9])
    )


@pytest.mark.parametrize(
    ("lengths", "ratios", "batch", "message"),
    [([0], [1.0], 4, "empty"), ([5], [-1.0], 4, "ratios"), ([5, 5], [0.0, 0.0], 4, "ratios"), ([5], [1.0], 0, "batch")],
)
def test_sources_that_cannot_be_mixed_are_refused(
    lengths: list[int], ratios: list[float], batch: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        MixedSampler(lengths, ratios, batch)


def order(length: int, *key: int) -> list[int]:
    return Permutation(length, key)(np.arange(length)).tolist()


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1000, 1024, 4096, 4099, 65537])
def test_every_word_stands_at_one_position(length: int) -> None:
    for epoch in range(3):
        assert sorted(order(length, 1, 0, epoch)) == list(range(length))


@given(length=st.integers(1, 2**61), key=st.integers(0, 2**32), start=st.integers(0, 2**61))
@settings(max_examples=50, deadline=None)
def test_positions_of_the_longest_orders_stay_apart(length: int, key: int, start: int) -> None:
    positions = np.unique((start + np.arange(100)) % length)
    drawn = Permutation(length, (key,))(positions)
    assert len(np.unique(drawn)) == len(positions)
    assert 0 <= drawn.min() <= drawn.max() < length


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
        assert abs(np.corrcoef(row, np.arange(length))[0, 1]) < 0.04, "position and word"
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
