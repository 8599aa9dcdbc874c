"""FreeWidthEncoder: columns of pictures that keep their aspect, whatever stands right of them.

The encoder finds the padding in the picture itself, in an exported graph too, and masks it after every step that mixes
columns: neither the amount of padding nor anything computed there reaches a real column.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from students.encoders import ConvEncoder
from students.padding import half, keep_real, normalize_real, real_widths
from students.stages import Taps

POOLED_COLUMNS = 32
"""Columns that a picture of any width is pooled to for guidance and for a decoder in training."""
WAVES = 16
"""Wavelengths of the positions, from 4 to 1,024 columns."""


class FreeWidthEncoder(ConvEncoder):
    """The convolution stem and blocks of `ConvEncoder` for pictures of any width: a column for every 4 pixels.

    A column's position is told by sines of 16 wavelengths through a learned projection. Arguments are those of
    `ConvEncoder`; of `size` the width is that of the widest picture.
    """

    def make_positions(self, columns: int) -> None:
        """Add the projection of the waves; nothing depends on the number of columns."""
        self.position = nn.Linear(2 * WAVES, self.width)
        nn.init.trunc_normal_(self.position.weight, std=0.02)
        nn.init.zeros_(self.position.bias)
        self.tokens = 1 + POOLED_COLUMNS

    def stages(self, images: Tensor) -> tuple[Tensor, Taps]:
        """Encode (N, 3, H, W) padded pictures: final tokens (N, 1 + ceil(W / 4), D), class token first, three taps."""
        widths = real_widths(images)
        # What a graph computes can't depend on what it is given; elsewhere a batch without padding needs no masks.
        padded = torch.compiler.is_compiling() or bool((widths < images.shape[-1]).any())
        images = normalize_real(images, widths).contiguous(memory_format=torch.channels_last)
        if not padded:
            return self.encode_columns(self.collapse(self.stem(images)), None)
        widths = half(widths)
        grid = keep_real(self.stem[0](images), widths)
        for level, stride in ((self.stem[1], 2), (self.stem[2], 1)):
            widths = half(widths) if stride == 2 else widths
            for step in level.steps():  # type: ignore[operator,union-attr]
                grid = keep_real(step(grid), widths)
        columns = self.collapse(grid)
        padding = torch.arange(columns.shape[-1], device=images.device) >= widths[:, None]
        hidden = torch.zeros_like(padding, dtype=columns.dtype).masked_fill(padding, -math.inf)
        return self.encode_columns(columns, F.pad(hidden, (1, 0))[:, None, None])

    def column_positions(self, columns: int, like: Tensor) -> Tensor:
        """Compute the positions (1, 1 + columns, D) of class token and columns; the class token has none."""
        places = torch.arange(columns, device=like.device, dtype=torch.float32)
        waves = places[:, None] * (2 * math.pi / torch.logspace(2, 10, WAVES, base=2.0, device=like.device))
        sines = torch.cat([waves.sin(), waves.cos()], dim=-1).to(self.position.weight.dtype)
        return F.pad(self.position(sines), (0, 0, 1, 0))[None]

    def column_lengths(self, images: Tensor) -> Tensor:
        """Count the columns (N,) of padded pictures (N, 3, H, W) that are none of padding."""
        return half(half(real_widths(images)))

    def pool(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Pool the real columns of (N, 1 + T, D) tokens to (N, 1 + 32, D), interpolating; the class token stays."""
        centres = (torch.arange(POOLED_COLUMNS, device=tokens.device) + 0.5) / POOLED_COLUMNS
        places = (centres * lengths[:, None] - 0.5).clamp(min=0).minimum(lengths[:, None] - 1)
        left = places.floor().long()
        right = (left + 1).minimum(lengths[:, None] - 1)
        share = (places - left)[..., None].to(tokens.dtype)
        low, high = (tokens.gather(1, 1 + each[..., None].expand(-1, -1, tokens.shape[-1])) for each in (left, right))
        return torch.cat([tokens[:, :1], torch.lerp(low, high, share)], dim=1)
