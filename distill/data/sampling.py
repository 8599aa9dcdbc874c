"""MixedSampler: which words stand in which batch, as a function of seed and position alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from students.errors import UserError


class Draw(NamedTuple):
    """One word to load."""

    source: int
    """Number of the source."""
    word: int
    """Position in the source."""
    epoch: int
    """How often the source has been gone through before."""


class MixedSampler(Sampler[list[Draw]]):
    """Batches with a fixed share of each source, without end.

    Each source goes through its own permutation, drawn from (seed, source, epoch), and starts another one when it is
    exhausted. Batch k of all processes together is one block of each source, cut into equal parts: every process
    gets as many batches, and as many words of each source. Shares that don't divide a batch are met over time:
    of two sources none is ever a whole word away from its share.

    Args:
        lengths: words of each source.
        shares: share of each source in a batch, relative to the others.
        batch_size: words in a batch of one process.
        seed: seed of the order.
        rank: number of this process.
        world: number of processes.
        start_batch: batches that were consumed before.

    Raises:
        UserError: for an empty source, or shares that are negative or all 0.
    """

    def __init__(
        self, lengths: Sequence[int], shares: Sequence[float], batch_size: int, *, seed: int = 0, rank: int = 0,
        world: int = 1, start_batch: int = 0,
    ) -> None:  # fmt: skip
        if not lengths or min(lengths) < 1:
            raise UserError("a source of training words is empty; leave it out or check its path")
        if min(shares) < 0 or sum(shares) <= 0 or len(shares) != len(lengths):
            raise UserError(f"shares {list(shares)} of {len(lengths)} sources: give each at least 0, and one more")
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} words; give at least 1")
        self.lengths, self.batch_size = tuple(lengths), batch_size
        self.shares = np.asarray(shares, dtype=np.float64) / sum(shares)
        self.seed, self.rank, self.world = seed, rank, world
        self.start_batch = start_batch
        self._orders: list[tuple[int, np.ndarray] | None] = [None] * len(lengths)

    def __iter__(self) -> Iterator[list[Draw]]:
        """Give batches from `start_batch` on, without end."""
        taken = np.zeros(len(self.lengths), dtype=np.int64)
        for batch in itertools.count():
            counts = self._composition(batch, taken)
            if batch >= self.start_batch:
                yield self._draws(taken, counts)
            taken += counts

    def _composition(self, batch: int, taken: np.ndarray) -> np.ndarray:
        """Count the words of each source in a batch, given what the batches before took."""
        due = (batch + 1) * self.batch_size * self.shares - taken
        counts = np.maximum(np.floor(due + 1e-9).astype(np.int64), 0)
        behind = due - counts
        for source in np.argsort(-behind, kind="stable")[: self.batch_size - counts.sum()]:
            counts[source] += 1
        for source in np.argsort(behind, kind="stable"):
            # With three sources or more the whole parts can add up to more than a batch.
            excess = min(counts.sum() - self.batch_size, counts[source])
            counts[source] -= max(excess, 0)
        return counts

    def _draws(self, taken: np.ndarray, counts: np.ndarray) -> list[Draw]:
        draws = []
        for source, count in enumerate(counts.tolist()):
            start = int(taken[source]) * self.world + self.rank * count
            draws += [self._draw(source, start + step) for step in range(count)]
        return draws

    def _draw(self, source: int, place: int) -> Draw:
        epoch, step = divmod(place, self.lengths[source])
        held = self._orders[source]
        if held is None or held[0] != epoch:
            held = (epoch, permutation(self.lengths[source], self.seed, source, epoch))
            self._orders[source] = held
        return Draw(source, int(held[1][step]), epoch)


def permutation(length: int, seed: int, source: int, epoch: int) -> np.ndarray:
    """Draw the order of a source in an epoch."""
    generator = np.random.default_rng((seed % 2**32, source, epoch))
    return generator.permutation(np.arange(length, dtype=np.uint32))
