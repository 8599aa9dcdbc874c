"""Validation during training: word accuracy and 1-NED over a set that is split over processes, counted exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor

from distill.data.batch import Batch
from distill.evaluation.gallery import GalleryItem, pick, to_pixels
from distill.evaluation.metrics import equal_without_spaces, percent, similarity
from students.charset import Charset
from students.decoding import Reading
from students.errors import UserError

UNIT = 10**9
"""1-NED is summed in billionths, as whole numbers, so that the sum doesn't depend on how the set is split."""


@dataclass(frozen=True)
class Validation:
    """Scores of one validation."""

    accuracy: float
    """What the best weights are chosen by, percent: word accuracy, or a CLIP's closed-lexicon accuracy."""
    words: int
    """Words validated, over all processes."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Further scores by name, percent."""
    label: str = "word accuracy"
    """What `accuracy` is called in progress lines."""
    samples: tuple[GalleryItem, ...] = ()
    """Some of this process's misread and read words."""

    def named_scores(self) -> dict[str, float]:
        """Return all scores by the names that people read."""
        named = {
            {"one_minus_ned": "1-NED"}.get(name, name.replace("_", " ")): score for name, score in self.metrics.items()
        }
        return {self.label: self.accuracy, **named}


def validate(
    model_read: Callable[[Tensor], list[Reading]],
    loader: Iterable[Batch],
    charset: Charset,
    accelerator: Accelerator | None = None,
    size: int | None = None,
    samples: int = 24,
) -> Validation:
    """Read a validation set; every process calls this with its own part of the words.

    Args:
        model_read: reads normalised pictures (N, 3, H, W), in eval mode.
        loader: this process's words: process r of W reads the words r, r + W, ... of the set, none twice.
        charset: test alphabet; predictions go through its rules, labels are clean already.
        accelerator: sums the counts over processes; None when there is one.
        size: words of the whole set, which the sum must meet.
        samples: number of words for a gallery.

    Raises:
        RuntimeError: when the processes together did not read as many words as the set has.
        UserError: when a word's picture can't be read.
    """
    words = hits = joined = similarities = positions = 0
    gallery: list[GalleryItem] = []
    for batch in loader:
        images = batch.images if accelerator is None else batch.images.to(accelerator.device)
        readings = model_read(images)
        if len(readings) != len(batch):
            raise RuntimeError(f"{len(readings)} readings of {len(batch)} pictures")
        predictions = [charset.adapt_reading(reading.text) for reading in readings]
        words += len(batch)
        positions += int(batch.indices.sum())
        pairs = list(zip(predictions, batch.labels, strict=True))
        hits += sum(prediction == label for prediction, label in pairs)
        joined += sum(equal_without_spaces(prediction, label) for prediction, label in pairs)
        similarities += sum(round(UNIT * similarity(prediction, label)) for prediction, label in pairs)
        gallery = add_samples(gallery, batch, readings, predictions, samples)
    counts = torch.tensor([words, hits, similarities, positions, *([joined] if " " in charset.ids else [])])
    if accelerator is not None and accelerator.num_processes > 1:
        counts = accelerator.reduce(counts.to(accelerator.device), reduction="sum").cpu()
    words, hits, similarities, positions, *without_spaces = counts.tolist()
    if size is not None and words != size:
        raise RuntimeError(f"validation read {words} words of a set of {size}: it was split wrongly over processes")
    # The loader replaces a broken record by the next one; then the sum of positions does not fit.
    if size is not None and positions != size * (size - 1) // 2:
        raise UserError("a validation word's picture can't be read; check-lmdb names all such records")
    metrics = {"one_minus_ned": percent(similarities / UNIT, words)}
    for joined in without_spaces:
        metrics["accuracy_without_spaces"] = percent(joined, words)
    return Validation(percent(hits, words), words, metrics, samples=tuple(pick(gallery, samples)))


def add_samples(
    gallery: list[GalleryItem], batch: Batch, readings: list[Reading], predictions: list[str], count: int
) -> list[GalleryItem]:
    """Add words of a batch, up to the first `count` misread and the first `count` read ones."""
    room = {right: count - sum(item.right == right for item in gallery) for right in (True, False)}
    for image, label, reading, prediction in zip(batch.images, batch.labels, readings, predictions, strict=True):
        if room[prediction == label] > 0:
            room[prediction == label] -= 1
            gallery.append(GalleryItem(to_pixels(image), label, prediction, reading.confidence))
    return gallery
