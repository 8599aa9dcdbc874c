"""Pixels of stored pictures: decoded to arrays, or decoded and resized once to a file that all processes map."""

from __future__ import annotations

import contextlib
import os
import re

import cv2
import numpy as np
from PIL import ExifTags, Image

from distill.data.progress import followed
from distill.data.records import BadRecordError, Records, decode_record, user_cache
from distill.locks import one_at_a_time
from students.errors import UserError
from students.files import replacing
from students.pictures import decode_picture, resize

_LARGEST = 1 << 24
"""Pixels up to which OpenCV decodes; of larger pictures `decode_picture` has to judge."""
_FRAMES, _SCAN, _NOTES, _END = (0xC0, 0xC1), 0xDA, 0xE1, b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)
"""What ends the pixels: an escaped byte or a restart does not."""
_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_VERSION = 2
"""Version of what the cache holds: another one when pictures are decoded otherwise."""


def decode(data: bytes) -> np.ndarray:
    """Decode an encoded picture to RGB (H, W, 3) uint8; the array may be read-only.

    The pixels are those of `decode_picture`, which takes what is not plainly a whole, upright JPEG file in grey or
    colour: both libraries hold the same JPEG decoder, and OpenCV's way to it is quicker.

    Raises:
        DamagedPictureError: when it can't be decoded.
    """
    if is_plain_jpeg(data):
        with contextlib.suppress(cv2.error):
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
            if pixels is not None:
                return pixels
    return np.asarray(decode_picture(data))


def is_plain_jpeg(data: bytes) -> bool:
    """Tell whether a file is an upright JPEG of 8 bits and one scan, in grey or three colours, and whole.

    Of one that is cut off or has something else between its pixels, OpenCV would make up what is missing.
    """
    if data[:2] != b"\xff\xd8":
        return False
    at, pixels = 2, 0
    while data[at : at + 1] == b"\xff" and at + 9 < len(data):
        kind, after = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind in _FRAMES and data[at + 4] == 8 and data[at + 9] in (1, 3):
            pixels = int.from_bytes(data[at + 5 : at + 7], "big") * int.from_bytes(data[at + 7 : at + 9], "big")
        if kind == _NOTES and _turns(data[at + 4 : after]):
            return False
        if kind == _SCAN:
            marker = _MARKER.search(data, after)
            whole = marker is not None and marker.group() == _END and marker.end() == len(data)
            return whole and 0 < pixels <= _LARGEST
        at = after
    return False


def _turns(notes: bytes) -> bool:
    """Tell whether EXIF or XMP notes may say that the picture is not stored upright."""
    if not notes.startswith(b"Exif\0\0"):
        return b"Orientation" in notes
    exif = Image.Exif()
    try:
        exif.load(notes)
        return exif.get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # broken notes are Pillow's to judge
        return True


class PixelCache:
    """Pictures of a set as uint8 (H, W, 3), read from a mapped file.

    The file is written on first use, into the set's folder or, when that is read-only, the user's cache; processes
    that start together wait for the first of them.

    Args:
        records: the set.
        size: height and width.
    """

    def __init__(self, records: Records, size: tuple[int, int]) -> None:
        key = f"{records.name}-{size[0]}x{size[1]}-v{_VERSION}-{records.fingerprint()}"
        home = records.path if records.path.is_dir() else records.path.parent
        self.file = (home if os.access(home, os.W_OK) else user_cache()) / f"pixels-{key}.npy"
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
