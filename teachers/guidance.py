"""Guidance: the teacher's side of every stage, the teacher's half of the contract with a student."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """What a frozen teacher shows for N pictures and their labels, T = longest label + 1 positions (METHOD 1.1).

    The order is that of the symmetrical flow: image taps go up, text taps come down, so that entry `k` of either
    tuple guides the student's tap `k + 1`.
    """

    image: tuple[Tensor, Tensor, Tensor]
    """Image taps 1, 2, 3, each (N, tokens, image_width): raw residual values, class token first, no norm."""
    text: tuple[Tensor, Tensor, Tensor]
    """Text taps reversed (3, 2, 1), start token dropped, each (N, T, text_width): raw residual values."""
    word: Tensor
    """(N, joint_width) text embedding of the whole label: the bridge. Not normalised."""
    rows: Tensor
    """(N, T) bool, True where the position is a character or the end token, False at padding."""


@dataclass(frozen=True)
class TeacherShape:
    """The sizes of a teacher's stages that guidance heads are built from."""

    image_tokens: int
    """Tokens of an image tap, the class token included."""
    image_width: int
    """Channels of an image tap."""
    text_width: int
    """Channels of a text tap."""
    joint_width: int
    """Channels of the joint space of pictures and words."""
