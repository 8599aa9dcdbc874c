"""Decode and resize the pictures of a set once, to a file that all processes map."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from distill.data.caches import cache_folder
from distill.data.progress import followed
from distill.data.records import BadRecordError, Records, decode_record
from distill.locks import one_at_a_time
from students.errors import UserError
from students.files import replacing
from students.pictures import resize

_VERSION = 2


class PixelCache:
    """Pictures of a set as uint8 (H, W, 3), read from a mapped file.

    The file is written on first use; processes that start together wait for the first of them.

    Args:
        records: the set.
        size: height and width.
        folder: the file's folder; by default the set's own, or the user's cache when that is read-only.
    """

    def __init__(self, records: Records, size: tuple[int, int], folder: Path | None = None) -> None:
        key = f"{records.name}-{size[0]}x{size[1]}-v{_VERSION}-{records.fingerprint()}"
        self.file = (folder or cache_folder(records)) / f"pixels-{key}.npy"
        self.readable_file = self.file.with_name(f"readable-{key}.npy")
        self.shape = (len(records), *size, 3)
        if not self.file.is_file():
            self._fill(records, size)
        self._pixels: np.ndarray | None = None
        self._readable: np.ndarray | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pixels": None, "_readable": None}

    def __getitem__(self, position: int) -> np.ndarray | None:
        """Return the pixels (H, W, 3) at a position, not to be written to; None for a record that can't be read."""
        if self._pixels is None or self._readable is None:
            self._pixels = np.load(self.file, mmap_mode="r", allow_pickle=False)
            self._readable = np.load(self.readable_file, mmap_mode="r", allow_pickle=False)
        return self._pixels[position] if self._readable[position] else None

    def _fill(self, records: Records, size: tuple[int, int]) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(self.file.with_suffix(".lock")):
                if not self.file.is_file():
                    self._write(records, size)
        except OSError as error:
            needed = int(np.prod(self.shape)) / 2**20
            raise UserError(
                f"can't write {needed:.0f} MiB to {self.file.parent} ({error.strerror}); make room, or set cache: none"
            ) from None

    def _write(self, records: Records, size: tuple[int, int]) -> None:
        readable = np.zeros(len(records), dtype=bool)
        with replacing(self.file) as beside:
            pixels = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=self.shape)
            for position in followed(range(len(records)), len(records), f"resizing {records.name}"):
                with contextlib.suppress(BadRecordError):
                    pixels[position] = resize(decode_record(records, position), size)
                    readable[position] = True
            pixels.flush()
            with (
                replacing(self.readable_file) as readable_file,
                readable_file.open("wb") as stored,
            ):  # to a path, numpy would add a suffix
                np.save(stored, readable)
