"""Bring pictures as other programs hand them over to a reader's own size, inside the graph.

RapidOCR, PaddleOCR and OnnxTR keep the aspect of a picture and pad it. A reader of one size has learned from pictures
that were stretched to it. So the graph finds where the padding begins and resamples what is before it as Pillow would:
a product with one matrix of weights a side, built in the graph from the sizes it found. What is padded, and how far,
changes nothing. Larger pictures than the reader's are better than equal ones: what other programs resize without
antialiasing is then resized less.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GREY_STEP = 2 / 255
"""From one grey level to the next, normalised with mean 0.5 and std 0.5."""


class PaddedZero(nn.Module):
    """Fit BGR pictures of any height, padded on the right with 0, which no pixel is after normalisation.

    Args:
        size: height and width of the reader's input.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W), normalised with mean 0.5 and std 0.5, to RGB (N, 3, *size)."""
        widths = extent((images != 0).any(dim=1).any(dim=1))
        return resample(images.flip(1), torch.full_like(widths, images.shape[2]), widths, self.size)


class PaddedBlack(nn.Module):
    """Fit RGB pictures that were padded on the right or below with black, then normalised in another way.

    Black to the edge of a picture is taken for padding too.

    Args:
        size: height and width of the reader's input.
        mean: of the other normalisation.
        std: of the other normalisation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: tuple[int, int], mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, *size), normalised with mean 0.5 and std 0.5."""
        images = (images * self.std + self.mean) * 2 - 1
        content = (images > GREY_STEP / 2 - 1).any(dim=1)
        return resample(images, extent(content.any(dim=2)), extent(content.any(dim=1)), self.size)


class Stretched(nn.Module):
    """Fit RGB pictures that were stretched to another size.

    Args:
        size: height and width of the reader's input.
        given: height and width of the pictures.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size: tuple[int, int], given: tuple[int, int]) -> None:
        super().__init__()
        rows, columns = (resampling_weights(torch.tensor([n]), n, own)[0] for n, own in zip(given, size, strict=True))
        self.register_buffer("rows", rows.T)
        self.register_buffer("columns", columns)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, *given) to (N, 3, *size)."""
        return product(self.rows, images, self.columns)


def extent(content: Tensor) -> Tensor:
    """Count the pixels up to the last one that is content (N, L), at least one: (N,)."""
    positions = torch.arange(1, content.shape[1] + 1, device=content.device)
    return (content * positions).amax(dim=1).clamp(min=1)


def resample(images: Tensor, heights: Tensor, widths: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample the upper left (heights, widths) of each picture (N, 3, H, W) to `size`: (N, 3, *size)."""
    rows = resampling_weights(heights, images.shape[2], size[0])
    columns = resampling_weights(widths, images.shape[3], size[1])
    return product(rows.transpose(1, 2).unsqueeze(1), images, columns.unsqueeze(1))


def product(rows: Tensor, images: Tensor, columns: Tensor) -> Tensor:
    """Resample along columns, then rows, each cut off at black and white as in Pillow."""
    return (rows @ (images @ columns).clamp(-1, 1)).clamp(-1, 1)


def resampling_weights(lengths: Tensor, given: int, wanted: int) -> Tensor:
    """Compute the weights of Pillow's bicubic resampling with antialiasing along one side.

    Args:
        lengths: (N,) pixels of each picture along this side; the rest is padding.
        given: pixels along this side with the padding.
        wanted: pixels after resampling.

    Returns:
        (N, given, wanted); those of one wanted pixel sum to 1 and are 0 on padding.
    """
    scale = (lengths.float() / wanted)[:, None, None]
    pixels = torch.arange(given, device=lengths.device)[None, :, None]
    centers = (torch.arange(wanted, device=lengths.device)[None, None] + 0.5) * scale
    distance = ((pixels + 0.5 - centers) / scale.clamp(min=1)).abs()
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    weights = weights * (pixels < lengths[:, None, None])
    return weights / weights.sum(dim=1, keepdim=True)
