from __future__ import annotations

import pytest
import torch
from torch import Tensor

from teachers.feature_cache import CHUNK, FeatureCache


class Maker:
    """Makes an entry of 16 numbers (64 bytes) and counts what it is asked for."""

    def __init__(self, keys: list[int]) -> None:
        self.keys, self.sizes, self.made = keys, [], []  # type: ignore[var-annotated]

    def __call__(self, indices: list[int]) -> tuple[Tensor, ...]:
        self.sizes.append(len(indices))
        self.made += [self.keys[index] for index in dict.fromkeys(indices)]
        return (torch.stack([torch.full((16,), float(self.keys[index]) + 0.1) for index in indices]),)


def ask(cache: FeatureCache, *keys: int) -> list[int]:
    """Ask for entries, check them, and give those that had to be made."""
    maker = Maker(list(keys))
    (features,) = cache.gather(keys, maker)
    expected = torch.tensor(keys, dtype=torch.float32) + 0.1
    assert torch.equal(features, (expected.half().float() if cache.half else expected)[:, None].expand(-1, 16))
    assert all(size == CHUNK for size in maker.sizes)
    return maker.made


def test_each_is_made_once() -> None:
    cache = FeatureCache(10**6)
    assert ask(cache, 1, 2, 1, 1) == [1, 2]
    assert ask(cache, 2, 3) == [3]
    assert cache.take_hit_rate() == pytest.approx(100 * 3 / 6), "equal ones in a batch count as found"
    assert cache.take_hit_rate() is None
    assert ask(cache, *range(20)) == [0, *range(4, 20)]


def test_the_least_recently_used_goes_first() -> None:
    cache = FeatureCache(3 * 64)
    ask(cache, 1, 2, 3)
    ask(cache, 1)
    ask(cache, 4)
    assert cache.bytes == 3 * 64
    assert ask(cache, 1, 3, 4) == []
    assert ask(cache, 2) == [2]
    assert ask(cache, 5, 6, 7, 8, 9) == [5, 6, 7, 8, 9], "more at once than it holds"
    assert cache.bytes == 3 * 64


def test_without_eviction_the_first_stay() -> None:
    cache = FeatureCache(2 * 64, evict=False)
    assert ask(cache, 1, 2, 3) == [1, 2, 3]
    assert ask(cache, 3, 2, 1) == [3]


def test_half_precision_holds_twice_as_much() -> None:
    cache = FeatureCache(2 * 64, half=True)
    ask(cache, 1, 2, 3, 4)
    assert ask(cache, 1, 2, 3, 4) == []


def test_rows_of_a_batch_do_not_keep_it_alive() -> None:
    cache = FeatureCache(10**6)
    whole = torch.zeros(CHUNK, 4)
    cache.gather([1], lambda indices: (whole,))
    whole += 1
    assert cache.gather([1], lambda indices: (whole,))[0].sum() == 0


def test_entries_without_a_key_are_computed_together_and_not_held() -> None:
    cache, sizes = FeatureCache(10**6), []

    def compute(indices: list[int]) -> tuple[Tensor, ...]:
        sizes.append(len(indices))
        return (torch.tensor(indices, dtype=torch.float32)[:, None].expand(-1, 3),)

    for _ in range(2):
        (features,) = cache.gather([None, "a", None, "b"], compute)
        assert features[:, 0].tolist() == [0, 1, 2, 3]
    assert sizes == [CHUNK, 2, 2]
    assert len(cache) == 2
    assert cache.gather([None, None], compute)[0].shape == (2, 3)
