"""PictureReader: read pictures of every kind, one or many, batch by batch, in PyTorch or in ONNX.

The module imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar, overload

import numpy as np
from PIL import Image
from typing_extensions import Self

from students.allow import allowed_classes
from students.charset import Charset
from students.decoding import LogitsKind, Reading
from students.errors import UserError
from students.language_model import LanguageModel
from students.pictures import COLUMN, decode_picture, group_by_width, to_array
from students.turning import read_pictures_turned

Read = TypeVar("Read")
"""What is read of one picture."""
Picture: TypeAlias = str | Path | bytes | BinaryIO | Image.Image | np.ndarray
"""A path, an encoded picture, an open file, a Pillow picture, or an array (H, W) or (H, W, channels)."""
Allow: TypeAlias = str | Path | None
"""Characters that may be read, see `students.allow`; None is all."""


class PictureReader:
    """A reader of word pictures; subclasses define `image_size` and `read_arrays`."""

    charset: Charset
    """Its alphabet."""
    max_length: int
    """Longest word in characters."""
    logits_kind: LogitsKind | None = None
    """What it decodes; None where that isn't known."""
    _language_model: LanguageModel | None = None

    @property
    def language_model(self) -> LanguageModel | None:
        """Words that a CTC reader expects, see `decode_ctc`; None takes what the columns say.

        Raises:
            UserError: when something else is set, or a reader that doesn't read by CTC gets one.
        """
        return self._language_model

    @language_model.setter
    def language_model(self, language_model: LanguageModel | None) -> None:
        if not isinstance(language_model, LanguageModel | None):
            raise UserError(f'{language_model!r} is no language model; give symdistill.open_language_model("european")')
        if language_model is not None and self.logits_kind != "ctc":
            raise UserError("a language model is for reading by CTC; set student.decoding=ctc, or leave it out")
        self._language_model = language_model

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels; of the widest picture with `keep_aspect`."""
        raise NotImplementedError

    @property
    def keep_aspect(self) -> bool:
        """Whether pictures keep their aspect, see `students.pictures.to_array`."""
        return False

    @property
    def turn_tall(self) -> bool:
        """Whether tall pictures are read turned too, see `students.turning`."""
        return False

    def place(self, device: str, threads: int | None) -> Self:
        """Return the same reader on a device, with a number of CPU threads, where it has a choice of these."""
        return self

    def read_arrays(self, images: np.ndarray, allowed: np.ndarray | None = None) -> list[Reading]:
        """Read normalised pictures (N, 3, H, W) float32: one reading each.

        Args:
            images: the pictures, padded with 0 on the right.
            allowed: (C + 1,) bool, the classes that are chosen among (`students.allow`); None takes all.
        """
        raise NotImplementedError

    def read_pictures(self, pictures: Sequence[Image.Image], allowed: np.ndarray | None = None) -> list[Reading]:
        """Read decoded RGB pictures of any size: one reading each; `allowed` as in `read_arrays`."""

        def read(views: Sequence[Image.Image]) -> list[Reading]:
            return self.read_arrays(to_array(views, self.image_size, self.keep_aspect), allowed)

        return read_pictures_turned(read, pictures) if self.turn_tall else read(pictures)

    @overload
    def read(self, pictures: Picture, batch_size: int = ..., allow: Allow = ...) -> Reading: ...  # type: ignore[overload-overlap]
    @overload
    def read(self, pictures: Iterable[Picture], batch_size: int = ..., allow: Allow = ...) -> list[Reading]: ...
    def read(
        self, pictures: Picture | Iterable[Picture], batch_size: int = 64, allow: Allow = None
    ) -> Reading | list[Reading]:
        """Read one picture, or many.

        Args:
            pictures: one path, Pillow picture or array, or any number of them; an array (N, H, W, C) is N pictures.
            batch_size: pictures that are decoded and read at once.
            allow: characters that may be read: ranges such as `0-9A-Z`, or the `Path` of a text file with the
                characters; None allows the whole alphabet. Confidences are then among what is allowed.

        Returns:
            A reading for one picture, a list of readings for many.

        Raises:
            UserError: when a file is missing or can't be decoded, or something is allowed that the alphabet lacks.
        """
        readings = list(self.read_iter(pictures, batch_size, allow))
        return readings[0] if _is_one(pictures) else readings

    def read_iter(
        self, pictures: Picture | Iterable[Picture], batch_size: int = 64, allow: Allow = None
    ) -> Iterator[Reading]:
        """Read pictures lazily: no more than `batch_size` of them are taken and decoded at a time.

        Args:
            pictures: see `read`; any iterable, also one without end.
            batch_size: pictures that are read at once.
            allow: see `read`.

        Raises:
            UserError: see `read`.
        """
        if not hasattr(batch_size, "__index__") or batch_size < 1:
            raise UserError(f"a batch of {batch_size} pictures; give batch_size 1 or more")
        if not (_is_one(pictures) or isinstance(pictures, Iterable)):
            raise UserError(f"{pictures!r} is no picture; give a path, an array, a Pillow picture, or several")
        allowed = None if allow is None else allowed_classes(self.charset, allow)
        remaining: Iterator[Picture] = iter([pictures] if _is_one(pictures) else pictures)  # type: ignore[list-item,arg-type]
        numbered = enumerate(remaining, start=1)
        while batch := [_decode(picture, number) for number, picture in islice(numbered, batch_size)]:
            yield from self.read_pictures(batch, allowed)


def _decode(picture: Picture, number: int) -> Image.Image:
    """Decode the `number`-th picture; an error names a file, and counts what has no name."""
    try:
        return decode_picture(picture)
    except UserError as error:
        if isinstance(picture, str | os.PathLike):
            raise
        raise type(error)(f"picture {number}: {error}") from None


def _is_one(pictures: Picture | Iterable[Picture]) -> bool:
    """Whether this is one picture: a string is a path, not an iterable of letters."""
    if isinstance(pictures, np.ndarray):
        return pictures.ndim < 4
    encoded = str | os.PathLike | bytes | bytearray | memoryview
    return pictures is None or isinstance(pictures, encoded | Image.Image) or hasattr(pictures, "read")


def read_by_width(read: Callable[[Any, Sequence[int]], list[Read]], images: Any, widths: Sequence[int]) -> list[Read]:
    """Read padded pictures in groups of like width, each without the padding that it can do without.

    Args:
        read: reads some of them, which have these numbers of columns.
        images: (N, 3, H, W), an array or a tensor.
        widths: of the N pictures without padding, in pixels.
    """
    readings: dict[int, Read] = {}
    for group in group_by_width(widths):
        columns = [-(-widths[position] // COLUMN) for position in group]
        readings |= zip(group, read(images[group, :, :, : widths[group[0]]], columns), strict=True)
    return [readings[position] for position in range(len(images))]
