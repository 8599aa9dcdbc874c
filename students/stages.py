"""Stages: the features of a student that a teacher guides, the student's half of the contract with a teacher."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Taps = tuple[Tensor, Tensor, Tensor]
"""Features of three depths, shallow first."""


@dataclass(frozen=True)
class StudentShape:
    """The sizes of a student's stages that guidance heads are built from."""

    tokens: int
    """Encoder tokens S per picture, the class token included."""
    width: int
    """Channels D of the encoder's tokens and of the summary token."""
    decoder_width: int
    """Channels of the decoder's taps; 0 for a student that learns without a decoder."""


@dataclass(frozen=True)
class Stages:
    """One teacher-forced pass of a student over N pictures with T = longest label + 1 positions."""

    logits: Tensor | None
    """(N, T, C + 1) character logits, the end token first; None for a student that learns without a decoder."""
    encoder: Taps
    """Encoder taps 1 to 3, each (N, S, D): raw values of the residual stream, no norm."""
    decoder: Taps | None
    """Decoder taps 1 to 3, each (N, T, D): every one through the decoder's one final norm; None as above."""
    word: Tensor
    """(N, D) the encoder's final class token."""
    columns: Tensor | None
    """(N, W, C + 1) logits of the column head, blank first; None for a student without it."""
    column_lengths: Tensor | None = None
    """(N,) how many of a word's columns are its own, the others are padding on the right; None for all."""
    second_columns: Tensor | None = None
    """(N, W, C + 1) the column logits of a second view of the same pictures; None where there is none."""

    @property
    def own_columns(self) -> Tensor:
        """The `column_lengths`, (N,), also where they are all of them.

        Raises:
            ValueError: for a student without a column head.
        """
        if self.columns is None:
            raise ValueError("a student without a column head has no columns")
        count, width, _ = self.columns.shape
        device = self.columns.device
        return torch.full((count,), width, device=device) if self.column_lengths is None else self.column_lengths
