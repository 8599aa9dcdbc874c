"""Decoding to arrays: Pillow's pixels, with OpenCV's quicker way for ordinary JPEG files."""

from __future__ import annotations

import re
from typing import NamedTuple

import cv2
import numpy as np

from students.preprocess import decode_image

_LARGEST = 1 << 24
"""Pixels up to which OpenCV decodes; Pillow knows what to say about absurd sizes."""
_FRAMES, _SCAN, _END = (0xC0, 0xC1), 0xDA, b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]", re.DOTALL)
"""What ends the pixels: an escaped byte or a restart does not."""
_WHOLE = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
# The flags for a reduced picture name grey or BGR; their lowest bit says which, and must not stand beside RGB.
_REDUCED = {
    1: _WHOLE,
    2: _WHOLE | cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: _WHOLE | cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: _WHOLE | cv2.IMREAD_REDUCED_GRAYSCALE_8,
}


class Frame(NamedTuple):
    """What the header of a JPEG file says."""

    height: int
    width: int


def decode(data: bytes, least: tuple[int, int] | None = None) -> np.ndarray:
    """Decode an encoded picture to RGB (H, W, 3) uint8; the array may be read-only.

    Both libraries hold the same JPEG decoder, so the pixels are those of `decode_image`, which takes what is not
    plainly a whole JPEG file in grey or colour.

    Args:
        data: the encoded picture.
        least: height and width that are enough: a JPEG file is decoded at 1/2, 1/4 or 1/8 where at least that is left.

    Raises:
        one of `BROKEN_IMAGE`, when it can't be decoded.
    """
    frame = read_frame(data)
    if frame is not None:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[_reduction(frame, least)])
        if pixels is not None:
            return pixels
    return np.asarray(decode_image(data))


def read_frame(data: bytes) -> Frame | None:
    """Read the header of a JPEG file of 8 bits, of one scan, in grey or three colours; None for all else.

    Also for one that is cut off or has something else between its pixels: OpenCV would make up what is missing.
    """
    if data[:2] != b"\xff\xd8":
        return None
    at, frame = 2, None
    while data[at : at + 1] == b"\xff" and at + 9 < len(data):
        kind = data[at + 1]
        if kind in _FRAMES and data[at + 4] == 8 and data[at + 9] in (1, 3):
            frame = Frame(int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big"))
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if kind == _SCAN:
            marker = _MARKER.search(data, at)
            whole = marker is not None and marker.group() == _END and marker.end() == len(data)
            return frame if whole and frame is not None and 0 < frame.height * frame.width <= _LARGEST else None
    return None


def _reduction(frame: Frame, least: tuple[int, int] | None) -> int:
    if least is None:
        return 1
    return next((by for by in (8, 4, 2) if frame.height >= by * least[0] and frame.width >= by * least[1]), 1)
