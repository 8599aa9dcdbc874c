"""Decide which words stand in which batch, as a function of seed and position alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from torch.utils.data import Sampler

from students.errors import UserError

Item = TypeVar("Item")


class Draw(NamedTuple):
    """One word to load."""

    source: int
    """Number of the source."""
    word: int
    """Position in the source."""
    epoch: int
    """How often the source has been gone through before."""


class MixedSampler(Sampler[list[Draw]]):
    """Batches with a fixed part of each source, without end.

    Each source goes through its own permutation, drawn from (seed, source, epoch), and starts another one when it is
    exhausted. Batch k of all processes together is one block of each source, cut into equal parts: every process
    gets as many batches, and as many words of each source. Ratios that don't divide a batch are met over time:
    of two sources none is ever a whole word away from its share. No batch needs those before it, so starting late
    costs nothing, and nothing is stored that grows with the number of words.

    Args:
        lengths: words of each source.
        ratios: share of each source in a batch, relative to the others.
        batch_size: words in a batch of one process.
        seed: seed of the order.
        rank: number of this process.
        world: number of processes.
        start_batch: batches that were consumed before.

    Raises:
        UserError: for an empty source, or ratios that make no batch.
    """

    def __init__(
        self, lengths: Sequence[int], ratios: Sequence[float], batch_size: int, *, seed: int = 0, rank: int = 0,
        world: int = 1, start_batch: int = 0,
    ) -> None:  # fmt: skip
        if not lengths or min(lengths) < 1:
            raise UserError("a source of training words is empty; leave it out or check its path")
        check_ratios(ratios)
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} words; give at least 1")
        self.lengths, self.batch_size = tuple(lengths), batch_size
        self.ratios = np.asarray(ratios, dtype=np.float64) / sum(ratios)
        self.seed, self.rank, self.world = seed, rank, world
        self.start_batch = start_batch
        self._orders: dict[int, tuple[int, Permutation]] = {}

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield batches from `start_batch` on, without end."""
        batch, taken = self.start_batch, self.taken(self.start_batch * self.batch_size)
        while True:
            batch += 1
            until = self.taken(batch * self.batch_size)
            yield self._draws(taken, until - taken)
            taken = until

    def taken(self, words: int) -> np.ndarray:
        """Count the words of each source (S,) int64 among the first `words` of a process.

        Word after word goes to the source with the highest share / (words it has + 1/2): Sainte-Lague's rule. The
        counts are worked out at once, from rounded ratios that few words are added to or taken from.
        """
        counts = np.rint(words * self.ratios).astype(np.int64)
        while counts.sum() < words:
            counts[np.argmax(self.ratios / (counts + 0.5))] += 1
        while counts.sum() > words:
            last = np.where(counts > 0, self.ratios / (counts - 0.5), np.inf)
            counts[len(last) - 1 - np.argmin(last[::-1])] -= 1
        return counts

    def _draws(self, taken: np.ndarray, counts: np.ndarray) -> list[Draw]:
        draws: list[Draw] = []
        for source, count in enumerate(counts.tolist()):
            start = int(taken[source]) * self.world + self.rank * count
            position, end = start, start + count
            while position < end:
                epoch, step = divmod(position, self.lengths[source])
                steps = np.arange(step, min(self.lengths[source], step + end - position))
                draws += [Draw(source, word, epoch) for word in self._order(source, epoch)(steps).tolist()]
                position += len(steps)
        return draws

    def _order(self, source: int, epoch: int) -> Permutation:
        current = self._orders.get(source)
        if current is None or current[0] != epoch:
            current = (epoch, draw_order(self.lengths[source], self.seed, source, epoch))
            self._orders[source] = current
        return current[1]


def check_ratios(ratios: Sequence[float]) -> None:
    """Refuse ratios that make no batch.

    Raises:
        UserError: when one is negative, or all are 0.
    """
    if min(ratios, default=0) < 0 or sum(ratios) <= 0:
        raise UserError(f"sources with ratios of {list(ratios)}: give each 0 or more, and at least one above 0")


def draw_order(length: int, seed: int, source: int, epoch: int) -> Permutation:
    """Draw the order of a source in an epoch."""
    return Permutation(length, (seed % 2**32, source, epoch))


class InOrder(Sampler[list[Draw]]):
    """Batches of the words of one source, each once and in order; the last may be smaller.

    Args:
        words: their positions in the source.
        batch_size: words in a batch.
    """

    def __init__(self, words: range, batch_size: int) -> None:
        self.words, self.batch_size = words, batch_size

    def __len__(self) -> int:
        return -(-len(self.words) // self.batch_size)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield all batches."""
        for start in range(0, len(self.words), self.batch_size):
            yield [Draw(0, word, 0) for word in self.words[start : start + self.batch_size]]


_ROUNDS = 8
_STEP, _FIRST, _SECOND = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""The constants of SplitMix64."""


class Permutation:
    """A bijection of 0..length - 1 drawn by a key: the same in every process, of a size that no length changes.

    A position is written as (left, right) in a rectangle with hardly more positions than `length`. In each round of a
    generalised Feistel network one of the two is shifted by a hash of the other, which can be undone, so no two
    positions meet. What lands beyond the length walks on through the network until it is inside (cycle walking: Black
    and Rogaway, "Ciphers with arbitrary finite domains", 2002).

    Args:
        length: how many positions there are; below 2**62.
        key: whole numbers from 0 on; another key gives another order.
    """

    def __init__(self, length: int, key: tuple[int, ...]) -> None:
        self.length = length
        left = max(math.isqrt(max(length - 1, 0)) + 1, 1)  # the smallest square root that is not too small
        self._sides = (np.uint64(left), np.uint64(max(-(-length // left), 1)))
        self._keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)

    def __len__(self) -> int:
        return self.length

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Return what stands at positions (K,), each from 0 to length - 1: (K,) int64."""
        numbers = self._mixed(np.asarray(positions).astype(np.uint64))
        outside = np.flatnonzero(numbers >= self.length)
        while len(outside):
            numbers[outside] = self._mixed(numbers[outside])
            outside = outside[numbers[outside] >= self.length]
        return numbers.astype(np.int64)

    def _mixed(self, positions: np.ndarray) -> np.ndarray:
        parts = list(np.divmod(positions, self._sides[1]))
        for number, key in enumerate(self._keys):
            moved = number % 2
            parts[moved] = (parts[moved] + _hashed(parts[1 - moved] + key) % self._sides[moved]) % self._sides[moved]
        return parts[0] * self._sides[1] + parts[1]


def _hashed(numbers: np.ndarray) -> np.ndarray:
    """Scatter 64-bit numbers (K,) over 64 bits, as SplitMix64 does."""
    mixed = numbers * _STEP
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """Select up to `most` items, evenly spread, in order."""
    count = min(most, len(items))
    return [items[number * len(items) // count] for number in range(count)]
