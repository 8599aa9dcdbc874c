"""Guidance: the teacher's side of every stage, the teacher's half of the contract with a student."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from torch import Tensor

from students.charset import Charset


@dataclass(frozen=True)
class Guidance:
    """What a frozen teacher shows for N pictures and their labels, T = longest label + 1 positions (METHOD 1.1, 4).

    The order is that of the symmetrical flow: image taps go up, a CLIP's text taps come down, so that entry `k` of
    either tuple guides the student's tap `k + 1`. What a teacher hasn't got is None, the same in every batch; its
    `TeacherShape` says so too.
    """

    image: tuple[Tensor, Tensor, Tensor] | None
    """Image taps 1, 2, 3, each (N, tokens, image_width): raw residual values, a class token first where there is one,
    no norm."""
    text: tuple[Tensor, Tensor, Tensor] | None
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


@dataclass(frozen=True)
class FeatureRequest:
    """What is asked of a teacher: the parts of its `Guidance` that count, the others are None."""

    image: bool = True
    """Image taps."""
    text: bool = True
    """Text taps."""
    word: bool = True
    """The bridge."""
    pictures: Sequence[Hashable | None] = ()
    """For each picture what tells it from all others of the run, by which a teacher may keep what it shows of it; None
    for one that does not come back. Empty when nothing is to be kept."""


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
