"""Read tall pictures turned too: signs and spines whose words run upwards or downwards.

The module imports no torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from PIL import Image

from students.decoding import Reading

TALL = 1.5
"""Height over width from which on a picture counts as tall; PaddleOCR turns crops from there on too."""
TURNS = {90: Image.Transpose.ROTATE_90, 270: Image.Transpose.ROTATE_270}
"""Degrees counter-clockwise, for words that run downwards and upwards."""

Found = TypeVar("Found")


def _itself(found: Any) -> Any:
    return found


def read_turned(
    read: Callable[[Sequence[Image.Image]], list[Found]], pictures: Sequence[Image.Image],
    reading_of: Callable[[Found], Reading] = _itself,
) -> list[tuple[Found, int]]:  # fmt: skip
    """Read pictures, and tall ones turned to either side as well, of which the surest reading counts.

    A turned picture is believed only if it has two characters or more: a single one makes a tall picture as it stands.

    Args:
        read: reads RGB pictures, one result each.
        pictures: RGB pictures.
        reading_of: the reading in a result.

    Returns:
        The result of each picture, and the degrees by which it was turned counter-clockwise for it.
    """
    tall = [number for number, picture in enumerate(pictures) if picture.height >= TALL * picture.width]
    views = [(number, turn, pictures[number].transpose(how)) for number in tall for turn, how in TURNS.items()]
    found = read([*pictures, *(view for _, _, view in views)])
    chosen = [(one, 0) for one in found[: len(pictures)]]
    for (number, turn, _), other in zip(views, found[len(pictures) :], strict=True):
        reading = reading_of(other)
        if len(reading.text) > 1 and reading.confidence > reading_of(chosen[number][0]).confidence:
            chosen[number] = other, turn
    return chosen


def read_pictures_turned(
    read: Callable[[Sequence[Image.Image]], list[Reading]], pictures: Sequence[Image.Image]
) -> list[Reading]:
    """Read pictures as `read_turned` does; readings say how the picture was turned."""
    return [
        dataclasses.replace(reading, turned=turn) if turn else reading for reading, turn in read_turned(read, pictures)
    ]
