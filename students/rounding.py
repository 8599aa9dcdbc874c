"""Round a reader's weights to 8 bits, so that files that store them in 8 bits read exactly as it does."""

from __future__ import annotations

import torch
from torch import nn

LARGEST = 127
"""Of a symmetric 8-bit weight."""
FEWEST = 512
"""Weights of a product or convolution that is worth it."""


@torch.no_grad()
def round_weights(module: nn.Module) -> int:
    """Round the weights of linear layers and convolutions in place; returns how many numbers were rounded.

    Each output channel has a scale of its own, its largest weight over 127. A BatchNorm that is folded into a
    convolution afterwards only changes these scales, and half precision none of the whole numbers.
    """
    count = 0
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and part.weight.numel() >= FEWEST:
            weight = part.weight
            scale = weight.flatten(1).abs().amax(dim=1).view(-1, *[1] * (weight.ndim - 1)) / LARGEST
            scale[scale == 0] = 1
            weight.copy_((weight / scale).round() * scale)
            count += weight.numel()
    return count
