"""MixedSampler: which words stand in which batch, as a function of seed and position alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from distill.data.permutation import Permutation
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
    of two sources none is ever a whole word away from its share. No batch needs those before it, so starting late
    costs nothing, and nothing is kept that grows with the number of words.

    Args:
        lengths: words of each source.
        shares: share of each source in a batch, relative to the others.
        batch_size: words in a batch of one process.
        seed: seed of the order.
        rank: number of this process.
        world: number of processes.
        start_batch: batches that were consumed before.

    Raises:
        UserError: for an empty source, or shares that make no batch.
    """

    def __init__(
        self, lengths: Sequence[int], shares: Sequence[float], batch_size: int, *, seed: int = 0, rank: int = 0,
        world: int = 1, start_batch: int = 0,
    ) -> None:  # fmt: skip
        if not lengths or min(lengths) < 1:
            raise UserError("a source of training words is empty; leave it out or check its path")
        check_shares(shares)
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} words; give at least 1")
        self.lengths, self.batch_size = tuple(lengths), batch_size
        self.shares = np.asarray(shares, dtype=np.float64) / sum(shares)
        self.seed, self.rank, self.world = seed, rank, world
        self.start_batch = start_batch
        self._orders: dict[int, tuple[int, Permutation]] = {}

    def __iter__(self) -> Iterator[list[Draw]]:
        """Give batches from `start_batch` on, without end."""
        batch, taken = self.start_batch, self.taken(self.start_batch * self.batch_size)
        while True:
            batch += 1
            until = self.taken(batch * self.batch_size)
            yield self._draws(taken, until - taken)
            taken = until

    def taken(self, words: int) -> np.ndarray:
        """Count the words of each source (S,) int64 among the first `words` of a process.

        Word after word goes to the source with the highest share / (words it has + 1/2): Sainte-Lague's rule. The
        counts are worked out at once, from rounded shares that few words are added to or taken from.
        """
        counts = np.rint(words * self.shares).astype(np.int64)
        while counts.sum() < words:
            counts[np.argmax(self.shares / (counts + 0.5))] += 1
        while counts.sum() > words:
            last = np.where(counts > 0, self.shares / (counts - 0.5), np.inf)
            counts[len(last) - 1 - np.argmin(last[::-1])] -= 1
        return counts

    def _draws(self, taken: np.ndarray, counts: np.ndarray) -> list[Draw]:
        draws: list[Draw] = []
        for source, count in enumerate(counts.tolist()):
            start = int(taken[source]) * self.world + self.rank * count
            place, end = start, start + count
            while place < end:
                epoch, step = divmod(place, self.lengths[source])
                steps = np.arange(step, min(self.lengths[source], step + end - place))
                draws += [Draw(source, word, epoch) for word in self._order(source, epoch)(steps).tolist()]
                place += len(steps)
        return draws

    def _order(self, source: int, epoch: int) -> Permutation:
        held = self._orders.get(source)
        if held is None or held[0] != epoch:
            held = (epoch, permutation(self.lengths[source], self.seed, source, epoch))
            self._orders[source] = held
        return held[1]


def check_shares(shares: Sequence[float]) -> None:
    """Refuse shares that make no batch.

    Raises:
        UserError: when one is negative, or all are 0.
    """
    if min(shares, default=0) < 0 or sum(shares) <= 0:
        raise UserError(f"sources with shares of {list(shares)}: give each at least 0, and one more")


def permutation(length: int, seed: int, source: int, epoch: int) -> Permutation:
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
        """Give all batches."""
        for start in range(0, len(self.words), self.batch_size):
            yield [Draw(0, word, 0) for word in self.words[start : start + self.batch_size]]
