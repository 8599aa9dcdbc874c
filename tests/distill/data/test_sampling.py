"""MixedSampler: shares, epochs, processes, positions."""

from __future__ import annotations

import time
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.sampling import Draw, MixedSampler, permutation
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
    places = np.arange(100)
    orders = [permutation(100, *key)(places).tolist() for key in ((1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0))]
    assert all(one != other for number, one in enumerate(orders) for other in orders[:number])


@given(
    shares=st.lists(st.floats(0.01, 5), min_size=1, max_size=5),
    batch_size=st.integers(1, 40),
    world=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_shares_are_met_on_every_process(shares: list[float], batch_size: int, world: int) -> None:
    lengths = [50] * len(shares)
    ranks = [
        take(MixedSampler(lengths, shares, batch_size, rank=rank, world=world), 20) for rank in range(world)
    ]  # fmt: skip
    taken = np.zeros(len(shares))
    for step, batches in enumerate(zip(*ranks, strict=True), start=1):
        counts = [Counter(draw.source for draw in batch) for batch in batches]
        assert all(len(batch) == batch_size for batch in batches)
        assert all(count == counts[0] for count in counts)
        taken += [counts[0][source] for source in range(len(shares))]
        due = step * batch_size * np.asarray(shares) / sum(shares)
        assert np.abs(taken - due).max() < len(shares)
    for source in range(len(shares)):
        drawn = [draw for batches in ranks for batch in batches for draw in batch if draw.source == source]
        assert len(set(drawn)) == len(drawn), "no word twice in one epoch, over all processes"


def test_two_shares_never_miss_by_a_word() -> None:
    taken = 0
    for step, batch in enumerate(take(MixedSampler([1000, 10], [0.7, 0.3], 32), 200), start=1):
        taken += sum(draw.source == 0 for draw in batch)
        assert abs(taken - step * 32 * 0.7) < 1


@given(
    shares=st.lists(st.one_of(st.just(0.0), st.just(1.0), st.floats(0.001, 5)), min_size=1, max_size=6).filter(any),
    words=st.integers(0, 10**10),
)
@settings(max_examples=100, deadline=None)
def test_each_word_more_goes_to_one_source(shares: list[float], words: int) -> None:
    sampler = MixedSampler([10] * len(shares), shares, 4)
    before, after = sampler.taken(words), sampler.taken(words + 1)
    assert before.sum() == words
    assert sorted(after - before) == [0] * (len(shares) - 1) + [1]
    assert np.abs(before - words * sampler.shares).max() < len(shares)


def test_words_go_to_who_is_owed_most() -> None:
    sampler, counts = MixedSampler([10] * 4, [5, 3, 3, 0.5], 4), np.zeros(4)
    for words in range(300):
        assert sampler.taken(words).tolist() == counts.tolist()
        counts[np.argmax(sampler.shares / (counts + 0.5))] += 1


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
    ("lengths", "shares", "batch", "told"),
    [([0], [1.0], 4, "empty"), ([5], [-1.0], 4, "shares"), ([5, 5], [0.0, 0.0], 4, "shares"), ([5], [1.0], 0, "batch")],
)
def test_sources_that_cannot_be_mixed_are_refused(
    lengths: list[int], shares: list[float], batch: int, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        MixedSampler(lengths, shares, batch)
