"""Permutation: a random-looking order of any length, worked out place by place instead of kept as a list."""

from __future__ import annotations

import math

import numpy as np

_ROUNDS = 8
_STEP, _FIRST, _SECOND = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""The constants of SplitMix64."""


class Permutation:
    """A bijection of 0..length - 1 drawn by a key: the same in every process, of a size that no length changes.

    A place is written as (left, right) in a rectangle with hardly more places than `length`. In each round of a
    generalised Feistel network one of the two is shifted by a hash of the other, which can be undone, so no two places
    meet. What lands beyond the length walks on through the network until it is inside (cycle walking: Black and
    Rogaway, "Ciphers with arbitrary finite domains", 2002).

    Args:
        length: how many places there are; below 2**62.
        key: whole numbers from 0 on; another key gives another order.
    """

    def __init__(self, length: int, key: tuple[int, ...]) -> None:
        self.length = length
        left = max(math.isqrt(max(length - 1, 0)) + 1, 1)  # the smallest square root that is not too small
        self._sides = (np.uint64(left), np.uint64(max(-(-length // left), 1)))
        self._keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)

    def __len__(self) -> int:
        return self.length

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Give what stands at places (K,), each from 0 to length - 1: (K,) int64."""
        found = self._mixed(np.asarray(places).astype(np.uint64))
        outside = np.flatnonzero(found >= self.length)
        while len(outside):
            found[outside] = self._mixed(found[outside])
            outside = outside[found[outside] >= self.length]
        return found.astype(np.int64)

    def _mixed(self, places: np.ndarray) -> np.ndarray:
        parts = list(np.divmod(places, self._sides[1]))
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
