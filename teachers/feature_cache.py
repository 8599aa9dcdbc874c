"""FeatureCache: features that a frozen teacher computed before, by what they are of, within so many bytes.

A run that is resumed with an empty cache must give the same bits as one that was never broken. The last bits of a
matrix product depend on its shape, so missing entries are always computed in batches of one size, filled up where
fewer are missing: then an entry depends on its own key alone, whatever came before or beside it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

CHUNK = 8
"""Entries that are computed together."""
Entry = tuple[Tensor, ...]


class FeatureCache:
    """Tuples of tensors by key.

    Args:
        bytes_: most bytes of tensors that are held.
        half: hold float32 as float16: twice as many entries, no longer exact.
        evict: make room by dropping the least recently used entries; off: a full cache takes no new ones, which is
            better for entries that come back in turn, each once an epoch.
    """

    def __init__(self, bytes_: int, half: bool = False, evict: bool = True) -> None:
        self.capacity, self.half, self.evict = bytes_, half, evict
        self.bytes = 0
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._requests = self._hits = 0

    def __len__(self) -> int:
        return len(self._entries)

    def gather(self, keys: Sequence[Hashable | None], compute: Callable[[list[int]], Sequence[Tensor]]) -> Entry:
        """Stack the entries of `keys`.

        Args:
            keys: N of them; equal ones stand for the same entry. None stands for one that does not come back: those
                are computed together and not held.
            compute: computes the entries at some indices of `keys`, each tensor with one row an index; at `CHUNK`
                indices for entries that are held.

        Returns:
            Each tensor of an entry as (N, ...).
        """
        held = [index for index, key in enumerate(keys) if key is not None]
        passing = [index for index, key in enumerate(keys) if key is None]
        parts = []
        if held:
            own = [keys[index] for index in held]
            parts.append(self._lookup(own, lambda indices: compute([held[index] for index in indices])))
        if passing:
            parts.append(tuple(compute(passing)))
        if len(parts) == 1:
            return parts[0]
        order = torch.tensor(held + passing, device=parts[0][0].device).argsort()
        return tuple(torch.cat(pair)[order] for pair in zip(*parts, strict=True))

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()
        self.bytes = 0

    def take_hit_rate(self) -> float | None:
        """Compute the percentage of hits since the last call; None when nothing was looked up."""
        requests, hits = self._requests, self._hits
        self._requests = self._hits = 0
        return 100 * hits / requests if requests else None

    def _lookup(self, keys: Sequence[Hashable], compute: Callable[[list[int]], Sequence[Tensor]]) -> Entry:
        entries = {key: entry for key in dict.fromkeys(keys) if (entry := self._find(key)) is not None}
        first: dict[Hashable, int] = {}
        for index, key in enumerate(keys):
            if key not in entries:
                first.setdefault(key, index)
        self._requests += len(keys)
        self._hits += len(keys) - len(first)
        missing = list(first.items())
        for start in range(0, len(missing), CHUNK):
            part = missing[start : start + CHUNK]
            indices = [index for _, index in part]
            computed = compute(indices + indices[-1:] * (CHUNK - len(indices)))
            for row, (key, _) in enumerate(part):
                # A copy: a row of the whole would keep the whole alive.
                entries[key] = tuple(self._compress(tensor[row]) for tensor in computed)
                self._insert(key, entries[key])
        rows = [entries[key] for key in keys]
        return tuple(self._expand(torch.stack(tensors)) for tensors in zip(*rows, strict=True))

    def _find(self, key: Hashable) -> Entry | None:
        entry = self._entries.get(key)
        if entry is not None and self.evict:
            self._entries.move_to_end(key)
        return entry

    def _insert(self, key: Hashable, entry: Entry) -> None:
        size = _bytes(entry)
        if size > self.capacity or (not self.evict and self.bytes + size > self.capacity):
            return
        while self.bytes + size > self.capacity:
            self.bytes -= _bytes(self._entries.popitem(last=False)[1])
        self._entries[key] = entry
        self.bytes += size

    def _compress(self, tensor: Tensor) -> Tensor:
        return tensor.half() if self.half and tensor.dtype == torch.float32 else tensor.clone()

    def _expand(self, tensor: Tensor) -> Tensor:
        return tensor.float() if self.half and tensor.dtype == torch.float16 else tensor


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the type that autocast computes in on `device`, a part of each key; None without autocast."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def _bytes(entry: Entry) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in entry)
