"""Which words make up the k-th batch: a pure function of seed and k, so that a run can be taken up anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class Draw(NamedTuple):
    """One word of a batch."""

    source: int
    """Number of its source."""
    index: int
    """Number of the word in its source."""
    epoch: int
    """How many times the source has been gone through before."""


class MixedBatches(Sampler[list[Draw]]):
    """Endless batches with a fixed share of each source.

    Every source is gone through in an order of its own and epoch, and starts over in another order when it is
    exhausted; sources keep their shares exactly in the long run. Process r of W takes the batches r, r + W, ...

    Args:
        lengths: words of each source.
        shares: relative shares.
        batch_size: words a batch.
        seed: the run's seed.
        rank: this process.
        world: all processes.
        start: batches of this process that were consumed before.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        shares: Sequence[float],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        start: int = 0,
    ) -> None:
        self.lengths, self.batch_size, self.seed = list(lengths), batch_size, seed
        self.rank, self.world, self.start = rank, world, start
        self.limits = np.cumsum(np.asarray(shares, float)) / float(np.sum(shares))
        self.limits[-1] = 1.0
        self._orders: dict[int, tuple[int, np.ndarray]] = {}

    def __iter__(self) -> Iterator[list[Draw]]:
        position = self.start
        while True:
            yield self.batch(position * self.world + self.rank)
            position += 1

    def batch(self, number: int) -> list[Draw]:
        """Give the draws of the `number`-th batch over all processes."""
        before, after = self._drawn(number), self._drawn(number + 1)
        return [
            self._draw(source, place)
            for source in range(len(self.lengths))
            for place in range(before[source], after[source])
        ]

    def _drawn(self, batches: int) -> list[int]:
        """Words drawn of each source over the first so many batches."""
        upto = [int(round(batches * self.batch_size * limit)) for limit in self.limits]
        return [high - low for low, high in zip([0, *upto], upto, strict=False)]

    def _draw(self, source: int, place: int) -> Draw:
        epoch, offset = divmod(place, self.lengths[source])
        return Draw(source, int(self._order(source, epoch)[offset]), epoch)

    def _order(self, source: int, epoch: int) -> np.ndarray:
        kept = self._orders.get(source)
        if kept is None or kept[0] != epoch:
            order = np.random.default_rng([self.seed, source, epoch]).permutation(self.lengths[source]).astype(np.int32)
            kept = self._orders[source] = (epoch, order)
        return kept[1]
