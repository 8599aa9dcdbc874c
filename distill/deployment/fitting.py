"""Bring pictures as other programs hand them over to a reader's own size, inside the graph.

RapidOCR, PaddleOCR and OnnxTR keep the aspect of a picture and pad it. A reader of one size has learned from pictures
that were stretched to it. So the graph finds where the padding begins and resamples what is before it as Pillow would:
a product with one matrix of weights a side, built in the graph from the sizes it found. A reader that keeps the aspect
gets pictures of its height, as wide as it would have made them, padded no further than the batch needs. What is padded,
and how far, changes nothing.

Pictures larger than the reader's are better than equal ones: other programs resize without antialiasing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from students.pictures import COLUMN, NARROWEST

GREY_STEP = 2 / 255
"""From one grey level to the next, normalised with mean 0.5 and std 0.5."""


@dataclass(frozen=True)
class Form:
    """Size of a reader's input, and whether pictures keep their aspect."""

    height: int
    width: int
    """Of all pictures; with `keep_aspect` the largest."""
    keep_aspect: bool = False
    """Whether pictures keep their aspect and are padded with 0, see `students.pictures.fitted_size`."""

    def widths(self, heights: Tensor, widths: Tensor) -> Tensor:
        """Compute how wide pictures of some heights and widths (N,) are for this reader: (N,)."""
        if not self.keep_aspect:
            return torch.full_like(widths, self.width)
        columns = (widths.double() * self.height / heights / COLUMN).round().long()
        return (columns * COLUMN).clamp(NARROWEST * self.height, self.width)


class PaddedZero(nn.Module):
    """Fit BGR pictures of any height, padded on the right with 0, which no pixel is after normalisation.

    Args:
        form: of the reader's pictures.
    """

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W), normalised with mean 0.5 and std 0.5, to the reader's RGB pictures."""
        widths = extent((images != 0).any(dim=1).any(dim=1))
        return resample(images.flip(1), torch.full_like(widths, images.shape[2]), widths, self.form)


class PaddedBlack(nn.Module):
    """Fit RGB pictures that were padded on the right or below with black, then normalised in another way.

    Black up to the edge of a picture is taken for padding too.

    Args:
        form: of the reader's pictures.
        mean: of the other normalisation.
        std: of the other normalisation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, form: Form, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to the reader's pictures."""
        images = (images * self.std + self.mean) * 2 - 1
        content = (images > GREY_STEP / 2 - 1).any(dim=1)
        return resample(images, extent(content.any(dim=2)), extent(content.any(dim=1)), self.form)


class Stretched(nn.Module):
    """Fit RGB pictures that were stretched to one size, for a reader of one size.

    Args:
        form: of the reader's pictures.
        given: height and width of the pictures.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, form: Form, given: tuple[int, int]) -> None:
        super().__init__()
        (rows, columns) = (
            resampling_weights(torch.tensor([length]), length, torch.tensor([wanted]), wanted)[0]
            for length, wanted in zip(given, (form.height, form.width), strict=True)
        )
        self.register_buffer("rows", rows.T)
        self.register_buffer("columns", columns)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, *given) to the reader's pictures."""
        return product(self.rows, images, self.columns)


class Halved(nn.Module):
    """Halve RGB pictures of any width, for a reader that keeps the aspect.

    A convolution with the weights that Pillow's resampling has at this scale, for programs that know no computed sizes.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = resampling_weights(torch.tensor([64]), 64, torch.tensor([32]), 32)[0, 29:37, 16]
        self.register_buffer("kernel", taps.expand(3, 1, 1, -1).contiguous())

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, 2 H, 2 W) to (N, 3, H, W)."""
        return self.halve(self.halve(images, self.kernel), self.kernel.transpose(2, 3))

    def halve(self, images: Tensor, kernel: Tensor) -> Tensor:
        """Halve along one side; beyond an edge there are no pixels, so weights are scaled up beside it."""
        along = 3 if kernel.shape[3] > 1 else 2
        stride, padding = ((1, 2), (0, 3)) if along == 3 else ((2, 1), (3, 0))
        sums = F.conv2d(torch.ones_like(images), kernel, stride=stride, padding=padding, groups=3)
        return (F.conv2d(images, kernel, stride=stride, padding=padding, groups=3) / sums).clamp(-1, 1)


def extent(content: Tensor) -> Tensor:
    """Count the pixels up to the last one that is content (N, L), at least one: (N,)."""
    positions = torch.arange(1, content.shape[1] + 1, device=content.device)
    return (content * positions).amax(dim=1).clamp(min=1)


def resample(images: Tensor, heights: Tensor, widths: Tensor, form: Form) -> Tensor:
    """Resample the upper left (heights, widths) of each picture (N, 3, H, W) to a reader's pictures."""
    wanted = form.widths(heights, widths)
    widest = form.width
    if form.keep_aspect:
        widest = int(wanted.max())
        torch._check(widest >= form.height)  # tells the exporter what it can't see: the size is none
    rows = resampling_weights(heights, images.shape[2], torch.full_like(heights, form.height), form.height)
    columns = resampling_weights(widths, images.shape[3], wanted, widest)
    return product(rows.transpose(1, 2).unsqueeze(1), images, columns.unsqueeze(1))


def product(rows: Tensor, images: Tensor, columns: Tensor) -> Tensor:
    """Resample along columns, then rows, each cut off at black and white as in Pillow."""
    return (rows @ (images @ columns).clamp(-1, 1)).clamp(-1, 1)


def resampling_weights(lengths: Tensor, given: int, wanted: Tensor, widest: int) -> Tensor:
    """Compute the weights of Pillow's bicubic resampling with antialiasing along one side.

    Args:
        lengths: (N,) pixels of each picture along this side; the rest is padding.
        given: pixels along this side with the padding.
        wanted: (N,) pixels of each picture after resampling; the rest becomes 0.
        widest: pixels after resampling with the padding.

    Returns:
        (N, given, widest); those of one wanted pixel sum to 1 and are 0 on padding.
    """
    scale = (lengths.float() / wanted)[:, None, None]
    pixels = torch.arange(given, device=lengths.device)[None, :, None]
    places = torch.arange(widest, device=lengths.device)[None, None]
    distance = ((pixels + 0.5 - (places + 0.5) * scale) / scale.clamp(min=1)).abs()
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    weights = weights * (pixels < lengths[:, None, None])
    weights = weights / weights.sum(dim=1, keepdim=True)
    return torch.where(places < wanted[:, None, None], weights, torch.zeros_like(weights))
