"""Sample and Batch: what the loader hands to a task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from distill.data.columns import COLUMNS
from distill.data.distributions import BatchDistributions, WordDistributions
from students.pictures import normalize

_NORMALIZED = normalize(np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1)).ravel()
"""What each level becomes: a look-up gives the numbers of `normalize` in a fifth of its time."""


@dataclass(frozen=True)
class Sample:
    """One word."""

    pixels: np.ndarray
    """(H, W, 3) uint8, at the student's size; W is its own where the student's pictures keep their aspect."""
    label: str
    """Cleaned label; "" for a word that a teacher is to label."""
    columns: Tensor | None
    """(32,) long: id of the character drawn under each column, 0 for none; None where it isn't known."""
    index: int
    """Position in its data set."""
    source: str
    """Name of the set it is from."""
    version: int | None = None
    """Number of the picture among those that come back at this index; None where each epoch has another one."""
    distributions: WordDistributions | None = None
    """What readers said of each character of the label, where that is stored."""
    second: np.ndarray | None = None
    """The same picture augmented in another way, with the same columns; None where no loss asks for it."""

    @property
    def image(self) -> Tensor:
        """The picture as the student sees it: (3, H, W) float, mean 0.5 and std 0.5 taken out."""
        return _images([self.pixels])[0]


@dataclass(frozen=True)
class Batch:
    """N words."""

    images: Tensor
    """(N, 3, H, W) float; pictures narrower than W are padded on the right with 0."""
    labels: list[str]
    """Cleaned labels; "" for words that a teacher is to label."""
    columns: Tensor
    """(N, 32) long: character ids, 0 for none, -1 where unknown."""
    indices: Tensor
    """(N,) long: positions in the data set that was loaded from."""
    sources: tuple[str, ...] = ()
    """Name of the set each word is from."""
    versions: tuple[int | None, ...] = ()
    """`Sample.version` of each word; none comes back when empty."""
    distributions: BatchDistributions | None = None
    """Stored distributions over the characters of the labels; None when no word has any."""
    second: Tensor | None = None
    """(N, 3, H, W) the pictures augmented in another way, with the same columns; None where no loss asks for them."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def pictures(self) -> list[tuple[int, int] | None]:
        """Key of each picture that comes back in later epochs, (index, version); None where it doesn't."""
        keys = zip(self.indices.tolist(), self.versions, strict=False)
        return [None if version is None else (index, version) for index, version in keys]

    def select(self, positions: Sequence[int], labels: list[str]) -> Batch:
        """Take the words at these positions in the batch, with these labels."""
        chosen = list(positions)
        return Batch(
            self.images[chosen], labels, self.columns[chosen], self.indices[chosen],
            tuple(self.sources[position] for position in chosen) if self.sources else (),
            tuple(self.versions[position] for position in chosen) if self.versions else (),
            None if self.distributions is None else self.distributions.select(chosen),
            None if self.second is None else self.second[chosen],
        )  # fmt: skip

    def to(self, device: torch.device | str) -> Batch:
        """Move the tensors."""
        distributions = None if self.distributions is None else self.distributions.to(device)
        return self._with(lambda tensor: tensor.to(device, non_blocking=True), distributions)

    def pin_memory(self) -> Batch:
        """Pin the tensors for a quick way to the GPU; the loader calls it."""
        distributions = None if self.distributions is None else self.distributions.pin_memory()
        return self._with(Tensor.pin_memory, distributions)

    def _with(self, change: Callable[[Tensor], Tensor], distributions: BatchDistributions | None) -> Batch:
        tensors = {name: getattr(self, name) for name in ("images", "columns", "indices", "second")}
        changed: dict[str, Any] = {name: None if old is None else change(old) for name, old in tensors.items()}
        return dataclasses.replace(self, **changed, distributions=distributions)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples to a batch; columns that aren't known become -1."""
    unknown = torch.full((COLUMNS,), -1)
    second = [sample.second for sample in samples if sample.second is not None]
    return Batch(
        images=_images([sample.pixels for sample in samples]),
        labels=[sample.label for sample in samples],
        columns=torch.stack([unknown if sample.columns is None else sample.columns for sample in samples]),
        indices=torch.tensor([sample.index for sample in samples]),
        sources=tuple(sample.source for sample in samples),
        versions=tuple(sample.version for sample in samples),
        distributions=BatchDistributions.collate([sample.distributions for sample in samples]),
        second=_images(second) if second else None,
    )


def _images(pictures: Sequence[np.ndarray]) -> Tensor:
    """Normalise pictures of one height to (N, 3, H, W), each written into the batch at once, with 0 to their right."""
    height, _, channels = pictures[0].shape
    widths = [pixels.shape[1] for pixels in pictures]
    make = np.empty if min(widths) == max(widths) else np.zeros
    images = make((len(pictures), channels, height, max(widths)), np.float32)
    for image, pixels in zip(images, pictures, strict=True):
        image[:, :, : pixels.shape[1]] = cv2.LUT(pixels, _NORMALIZED).transpose(2, 0, 1)
    return torch.from_numpy(images)
