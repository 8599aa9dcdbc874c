"""The linear maps that a row passes in a decoder layer, with weights held in one way or another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from students.decoder import DecoderLayer
from students.errors import UserError

DecoderDtype = Literal["float32", "int8"]
"""How the weights that every step reads are held."""
Project = Callable[[Tensor], Tensor]
"""A linear map of the last dimension."""


class Projections(NamedTuple):
    """The linear maps that a row passes in one layer."""

    ask: Project
    """To the query for the content."""
    answer: Project
    """From what was seen of the content."""
    look: Project
    """To the query for the memory."""
    tell: Project
    """From what was seen of the memory."""
    widen: Project
    """Into the MLP."""
    narrow: Project
    """Out of it."""

    @classmethod
    def of(cls, layer: DecoderLayer, linear: Linear) -> Projections:
        """Take a layer's own weights, as maps of one of the kinds below."""
        own, cross = layer.self_attn, layer.cross_attn

        def called(module: nn.Module) -> Project:
            # A plain Linear is called without the module around it, whatever stands in its place as it is.
            return linear(module.weight, module.bias) if type(module) is nn.Linear else module

        return cls(
            linear(*own.query_weights()), called(own.out_proj), linear(*cross.query_weights()),
            called(cross.out_proj), called(layer.linear1), called(layer.linear2),
        )  # fmt: skip


Linear = Callable[[Tensor, Tensor], Project]
"""Makes a map of a weight (O, D) and a bias (O,)."""


def of_rows(weight: Tensor, bias: Tensor) -> Project:
    """Map rows (N, D)."""
    return partial(F.linear, weight=weight, bias=bias)


def of_columns(weight: Tensor, bias: Tensor) -> Project:
    """Map rows (N, D) with a copy of the weights in which those of one input lie side by side.

    The longer the numbers that lie side by side, the faster a row reads them from memory: it is for maps with more
    outputs than inputs.
    """
    columns = weight.T.contiguous()
    return lambda rows: torch.addmm(bias, rows, columns)


def of_longer(weight: Tensor, bias: Tensor) -> Project:
    """Map rows (N, D) by `of_rows` or `of_columns`, whichever has more numbers side by side."""
    return (of_columns if weight.shape[0] > weight.shape[1] else of_rows)(weight, bias)


def in_int8(weight: Tensor, bias: Tensor) -> Project:
    """Map rows (N, D) on the CPU with a copy of the weights in int8, a scale for each output; rows pass in bfloat16.

    Raises:
        UserError: for rows that torch's kernel, which takes 32 numbers at a time, can't cut evenly.
    """
    if weight.shape[1] % 32:
        raise UserError(
            f"int8 weights need a width that 32 divides, not {weight.shape[1]}; leave the decoder in float32"
        )
    weight, bias = weight.detach().cpu().float(), bias.detach().cpu().float()
    scales = (weight.abs().amax(dim=1) / 127).clamp(min=1e-12).bfloat16()
    rounded = (weight / scales.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return lambda rows: bias + torch._weight_int8pack_mm(rows.bfloat16(), rounded, scales)
