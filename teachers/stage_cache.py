"""StageCache: what a frozen teacher showed before, by what it was shown, within so many bytes.

A run that is taken up with an empty cache must give the same bits as one that was never broken. The last bits of a
matrix product depend on its shape, so what is missing is always computed in batches of one size, filled up where
fewer are missing: then an entry depends on its own key alone, whatever came before or beside it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from teachers.stage_store import StageStore

CHUNK = 8
"""Entries that are computed together."""
Entry = tuple[Tensor, ...]


class StageCache:
    """Tuples of tensors by key.

    Args:
        bytes_: most bytes of tensors that are held.
        half: hold float32 as float16: twice as many entries, no longer exact.
        evict: make room by giving up what was not asked for the longest; off: what is full takes nothing more, which
            is better for entries that come back in turn, each once an epoch.
        store: where entries are looked for, and left, that are not held.
    """

    def __init__(self, bytes_: int, half: bool = False, evict: bool = True, store: StageStore | None = None) -> None:
        self.capacity, self.half, self.evict, self.store = bytes_, half, evict, store
        self.bytes = 0
        self._entries: OrderedDict[Hashable, Entry] = OrderedDict()
        self._asked = self._found = 0

    def __len__(self) -> int:
        return len(self._entries)

    def gather(
        self, keys: Sequence[Hashable], make: Callable[[list[int]], Sequence[Tensor]], device: torch.device
    ) -> Entry:
        """Give the entries of `keys`, stacked.

        Args:
            keys: N of them; equal ones stand for the same entry.
            make: computes the entries at `CHUNK` places of `keys`, each tensor with one row a place.
            device: where they are computed and wanted.

        Returns:
            Each tensor of an entry as (N, ...).
        """
        held = {key: entry for key in dict.fromkeys(keys) if (entry := self._find(key, device)) is not None}
        first: dict[Hashable, int] = {}
        for place, key in enumerate(keys):
            if key not in held:
                first.setdefault(key, place)
        self._asked += len(keys)
        self._found += len(keys) - len(first)
        missing = list(first.items())
        for start in range(0, len(missing), CHUNK):
            part = missing[start : start + CHUNK]
            places = [place for _, place in part]
            made = make(places + places[-1:] * (CHUNK - len(places)))
            for row, (key, _) in enumerate(part):
                # A copy: a row of the whole would keep the whole alive.
                held[key] = tuple(self._stored(tensor[row]) for tensor in made)
                self._keep(key, held[key])
                if self.store is not None:
                    self.store.put(key, held[key])
        entries = [held[key] for key in keys]
        return tuple(self._shown(torch.stack(tensors)) for tensors in zip(*entries, strict=True))

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.bytes = 0

    def take_rate(self) -> float | None:
        """Give the percentage of entries that were there since the last call; None when nothing was asked for."""
        asked, found = self._asked, self._found
        self._asked = self._found = 0
        return 100 * found / asked if asked else None

    def _find(self, key: Hashable, device: torch.device) -> Entry | None:
        entry = self._entries.get(key)
        if entry is None and self.store is not None and (stored := self.store.find(key)) is not None:
            entry = tuple(tensor.to(device) for tensor in stored)
            self._keep(key, entry)
            return entry
        if entry is not None and self.evict:
            self._entries.move_to_end(key)
        return entry

    def _keep(self, key: Hashable, entry: Entry) -> None:
        size = _bytes(entry)
        if size > self.capacity or (not self.evict and self.bytes + size > self.capacity):
            return
        while self.bytes + size > self.capacity:
            self.bytes -= _bytes(self._entries.popitem(last=False)[1])
        self._entries[key] = entry
        self.bytes += size

    def _stored(self, tensor: Tensor) -> Tensor:
        return tensor.half() if self.half and tensor.dtype == torch.float32 else tensor.clone()

    def _shown(self, tensor: Tensor) -> Tensor:
        return tensor.float() if self.half and tensor.dtype == torch.float16 else tensor


def computed_in(device: torch.device) -> torch.dtype | None:
    """Give the type that autocast computes in on `device`; None without it: part of the key of whatever is kept."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def _bytes(entry: Entry) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in entry)
