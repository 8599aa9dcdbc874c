from __future__ import annotations

import pytest
import torch
from torch import Tensor

from teachers.stage_cache import CHUNK, StageCache

CPU = torch.device("cpu")


class Maker:
    """Makes an entry of 16 numbers (64 bytes) and counts what it is asked for."""

    def __init__(self, keys: list[int]) -> None:
        self.keys, self.sizes, self.made = keys, [], []  # type: ignore[var-annotated]

    def __call__(self, places: list[int]) -> tuple[Tensor, ...]:
        self.sizes.append(len(places))
        self.made += [self.keys[place] for place in dict.fromkeys(places)]
        return (torch.stack([torch.full((16,), float(self.keys[place]) + 0.1) for place in places]),)


def ask(cache: StageCache, *keys: int) -> list[int]:
    """Ask for entries, check them, and give those that had to be made."""
    maker = Maker(list(keys))
    (found,) = cache.gather(keys, maker, CPU)
    wanted = torch.tensor(keys, dtype=torch.float32) + 0.1
    assert torch.equal(found, (wanted.half().float() if cache.half else wanted)[:, None].expand(-1, 16))
    assert all(size == CHUNK for size in maker.sizes)
    return maker.made


def test_each_is_made_once() -> None:
    cache = StageCache(10**6)
    assert ask(cache, 1, 2, 1, 1) == [1, 2]
    assert ask(cache, 2, 3) == [3]
    assert cache.take_rate() == pytest.approx(100 * 3 / 6), "equal ones in a batch count as found"
    assert cache.take_rate() is None
    assert ask(cache, *range(20)) == [0, *range(4, 20)]


def test_what_was_not_asked_for_the_longest_goes_first() -> None:
    cache = StageCache(3 * 64)
    ask(cache, 1, 2, 3)
    ask(cache, 1)
    ask(cache, 4)
    assert cache.bytes == 3 * 64
    assert ask(cache, 1, 3, 4) == []
    assert ask(cache, 2) == [2]
    assert ask(cache, 5, 6, 7, 8, 9) == [5, 6, 7, 8, 9], "more at once than it holds"
    assert cache.bytes == 3 * 64


def test_without_eviction_the_first_stay() -> None:
    cache = StageCache(2 * 64, evict=False)
    assert ask(cache, 1, 2, 3) == [1, 2, 3]
    assert ask(cache, 3, 2, 1) == [3]


def test_half_precision_holds_twice_as_much() -> None:
    cache = StageCache(2 * 64, half=True)
    ask(cache, 1, 2, 3, 4)
    assert ask(cache, 1, 2, 3, 4) == []


def test_rows_of_the_whole_are_not_kept_alive() -> None:
    cache = StageCache(10**6)
    whole = torch.zeros(CHUNK, 4)
    cache.gather([1], lambda places: (whole,), CPU)
    whole += 1
    assert cache.gather([1], lambda places: (whole,), CPU)[0].sum() == 0
