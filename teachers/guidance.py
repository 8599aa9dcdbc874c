"""Guidance: the teacher's side of every stage, the teacher's half of the contract with a student."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from students.charset import Charset
from students.errors import UserError
from students.stages import Taps

Part = Literal["image", "text", "word", "characters", "columns"]
PARTS: frozenset[Part] = frozenset(get_args(Part))
"""The parts of `Guidance` that a teacher may have or lack."""
ANY = -1
"""Stands for a size that may be any."""
SLACK = 0.1
"""By how much probabilities may miss 1 together; half precision misses it by a few hundredths."""


@dataclass(frozen=True)
class Guidance:
    """The stages of a frozen teacher for N pictures and their labels, T = longest label + 1 positions.

    The order is that of the symmetrical flow: image taps go up, a CLIP's text taps come down, so that entry `k` of
    either tuple guides the student's tap `k + 1` (docs/method.md, sections 1.1 and 4). A part is None when it was not
    requested, or when the teacher hasn't got it; the latter is stated by `TeacherShape.parts` and nowhere else.
    """

    image: Taps | None
    """Image taps 1, 2, 3, each (N, tokens, image_width): raw residual values, a class token first where there is one,
    no norm."""
    text: Taps | None
    """Each (N, T, text_width): a CLIP's text taps reversed (3, 2, 1), start token dropped, raw residual values; or a
    reader's decoder taps 1, 2, 3."""
    word: Tensor | None
    """(N, joint_width) a CLIP's text embedding of the whole label, or a reader's summary: the bridge. Not
    normalised."""
    mask: Tensor
    """(N, T) bool, True where the position is a character or the end that the teacher can speak for, False at
    padding."""
    characters: Tensor | None = None
    """(N, T, C_t + 1) log-probabilities over a reading teacher's own alphabet, the end first; they mean nothing where
    `mask` is False."""
    columns: Tensor | None = None
    """(N, W, C_t + 1) log-probabilities of a CTC teacher's columns over its own alphabet, the blank first."""


@dataclass(frozen=True)
class FeatureRequest:
    """The parts of `Guidance` that a teacher has to compute; the others are None."""

    parts: frozenset[Part] = PARTS
    """Parts by name; those that the teacher hasn't got are ignored."""
    pictures: Sequence[Hashable | None] = ()
    """For each picture a key that no other picture of the run has, by which its features may be cached; None for one
    that does not come back. Empty when nothing is to be cached."""


@dataclass(frozen=True)
class TeacherShape:
    """The sizes of a teacher's stages that guidance heads are built from; 0 where it has no such stage."""

    image_tokens: int = 0
    """Tokens of an image tap, a class token included."""
    image_width: int = 0
    """Channels of an image tap."""
    text_width: int = 0
    """Channels of a text tap."""
    joint_width: int = 0
    """Channels of the joint space of pictures and words."""
    charset: Charset | None = None
    """Alphabet of `Guidance.characters`; None for a teacher that does not read."""
    columns: int = 0
    """Columns W of `Guidance.columns`."""

    @property
    def parts(self) -> frozenset[Part]:
        """The parts of `Guidance` that the teacher has."""
        has: dict[Part, bool] = {
            "image": self.image_width > 0, "text": self.text_width > 0, "word": self.joint_width > 0,
            "characters": self.charset is not None, "columns": self.columns > 0,
        }  # fmt: skip
        return frozenset(part for part, there in has.items() if there)


def check_guidance(guidance: object, shape: TeacherShape, count: int, request: FeatureRequest, name: str) -> None:
    """Check what a teacher gives against the sizes that it states.

    Args:
        guidance: of `count` pictures.
        shape: the teacher's.
        count: N, pictures.
        request: the parts that were asked for.
        name: the teacher's.

    Raises:
        UserError: naming the teacher, the part, and both shapes.
    """
    if not isinstance(guidance, Guidance):
        raise UserError(f"teacher {name} gives a {type(guidance).__name__}; give a teachers.guidance.Guidance")
    mask = guidance.mask
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.ndim != 2 or len(mask) != count:
        raise UserError(f"teacher {name}: mask is {_shape_of(mask)}; give one (N, T) of bool for N = {count} pictures")
    positions, classes = mask.shape[1], 0 if shape.charset is None else len(shape.charset.characters) + 1
    expected: dict[Part, tuple[int, ...]] = {
        "image": (count, shape.image_tokens, shape.image_width), "text": (count, positions, shape.text_width),
        "word": (count, shape.joint_width), "characters": (count, positions, classes), "columns": (count, ANY, classes),
    }  # fmt: skip
    for part in sorted(request.parts & shape.parts):
        given, three = getattr(guidance, part), part in ("image", "text")
        tensors = given if three and isinstance(given, tuple | list) else (given,)
        if three and (given is None or len(tensors) != 3):
            raise UserError(f"teacher {name}: {part} is {_shape_of(given)}; give three tensors")
        for tensor in tensors:
            if not _fits(tensor, expected[part]):
                stated = ", ".join("W" if size == ANY else str(size) for size in expected[part])
                raise UserError(f"teacher {name}: {part} is {_shape_of(tensor)}, and its TeacherShape says ({stated})")
        if classes and part in ("characters", "columns"):
            sums = given.float().exp().sum(dim=-1)
            inside = sums[mask] if part == "characters" else sums
            if not bool(((inside - 1).abs() < SLACK).all()):
                raise UserError(f"teacher {name}: {part} are no log-probabilities, for these don't add up to 1")


def _fits(tensor: object, sizes: tuple[int, ...]) -> bool:
    if not isinstance(tensor, Tensor) or tensor.ndim != len(sizes):
        return False
    return all(size in (ANY, own) for size, own in zip(sizes, tensor.shape, strict=True))


def _shape_of(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"{len(value)} tensors"
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
