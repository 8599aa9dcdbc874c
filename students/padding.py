"""Pictures of any width: how padding is told from pixels, and kept out of what is computed.

Pictures that keep their aspect have one height and are padded on the right with exactly 0, which no pixel of 8 bits
becomes when mean 0.5 and std 0.5 are taken out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLANK_LEAD = 30.0
"""Logit by which the blank is ahead in a column of padding."""


def real_widths(images: Tensor) -> Tensor:
    """Count the pixels (N,) across pictures (N, 3, H, W) up to their padding on the right, at least 1."""
    real = (images != 0).to(torch.float32).amax(dim=(1, 2))
    places = torch.arange(1, images.shape[-1] + 1, device=images.device, dtype=torch.float32)
    return (real * places).amax(dim=1).clamp(min=1).long()


def normalize_real(images: Tensor, widths: Tensor) -> Tensor:
    """Take mean and spread of its real pixels out of each picture; padding becomes 0."""
    pixels = (widths * images.shape[2])[:, None, None, None]
    centred = images - images.sum(dim=(2, 3), keepdim=True) / pixels
    centred = keep_real(centred, widths)
    spread = (centred.square().sum(dim=(1, 2, 3), keepdim=True) / (3 * pixels)).sqrt()
    return centred / (spread + 1e-3)


def keep_real(grid: Tensor, widths: Tensor) -> Tensor:
    """Set (N, C, H, W) to 0 from each picture's width (N,) on."""
    real = torch.arange(grid.shape[-1], device=grid.device) < widths[:, None]
    return grid * real[:, None, None].to(grid.dtype)


def half(widths: Tensor) -> Tensor:
    """Return the widths behind a convolution of stride 2."""
    return (widths + 1) // 2


def blank_padding(columns: Tensor, lengths: Tensor) -> Tensor:
    """Make the blank certain in the columns (N, T, C + 1) of padding, so that they read as nothing."""
    padding = (torch.arange(columns.shape[1], device=columns.device) >= lengths[:, None])[..., None]
    blank = F.pad(columns.new_zeros(1), (0, columns.shape[-1] - 1), value=-BLANK_LEAD)
    return torch.where(padding, blank, columns)


def stretch(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize padded pictures (N, 3, H, W), each without its padding, to one `size` (height, width), bicubically."""
    widths = real_widths(images)
    stretched = images.new_empty(len(images), images.shape[1], *size)
    for width in widths.unique().tolist():
        chosen = widths == width
        stretched[chosen] = F.interpolate(
            images[chosen, :, :, :width], size, mode="bicubic", antialias=True, align_corners=False
        )
    return stretched
