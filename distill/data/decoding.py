"""Decode pictures to arrays: Pillow's pixels, by OpenCV's quicker way for ordinary JPEG files."""

from __future__ import annotations

import re

import cv2
import numpy as np
from PIL import ExifTags, Image

from students.pictures import decode_picture

_LARGEST = 1 << 24
"""Pixels up to which OpenCV decodes; Pillow knows what to say about absurd sizes."""
_FRAMES, _SCAN, _NOTES, _END = (0xC0, 0xC1), 0xDA, 0xE1, b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)
"""What ends the pixels: an escaped byte or a restart does not."""
_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION


def decode(data: bytes) -> np.ndarray:
    """Decode an encoded picture to RGB (H, W, 3) uint8; the array may be read-only.

    The pixels are those of `decode_picture`, which takes what is not plainly a whole, upright JPEG file in grey or
    colour: both libraries hold the same JPEG decoder, and OpenCV's way to it is quicker.

    Raises:
        DamagedPictureError: when it can't be decoded.
    """
    if is_plain_jpeg(data):
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
