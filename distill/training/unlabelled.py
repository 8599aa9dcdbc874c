"""Words without labels: a teacher that reads labels those it is sure of, and the others are left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill.data.batch import Batch
from students.charset import Charset
from teachers.reading import ReadingTeacher


@dataclass(frozen=True)
class LabelledBatch:
    """A batch in which every word has a label."""

    batch: Batch
    """Without the words that the teacher wasn't sure of."""
    read: Tensor
    """(N,) bool: labelled by the teacher."""
    idle: bool
    """Whether no word was left: one stands in then that must not count."""


def label_words(
    batch: Batch, teacher: ReadingTeacher, charset: Charset, max_length: int, confidence: float
) -> LabelledBatch:
    """Let a teacher label the words of a batch that have no label.

    What it reads goes through the label rules of the student's alphabet, as any label does. A word is left out when
    the teacher is less sure of it than `confidence`, found no end to it, or nothing is left of its reading.

    Args:
        batch: words, those without a label with "".
        teacher: reads them.
        charset: the student's alphabet.
        max_length: the student's longest word.
        confidence: least product of the probabilities of a word's characters and its end.
    """
    unknown = [place for place, label in enumerate(batch.labels) if not label]
    labels: dict[int, str] = {place: label for place, label in enumerate(batch.labels) if label}
    for place, reading in zip(unknown, teacher.read_batch(batch.images[unknown]), strict=True):
        cleaned = charset.clean(reading.text, max_length)
        ended = len(reading.text) <= teacher.reader.max_length
        if cleaned is not None and ended and reading.confidence >= confidence:
            labels[place] = cleaned
    idle = not labels
    if idle:  # every process takes part in every step, so a word stands in: any label will do
        labels = {0: charset.characters[0]}
    kept = sorted(labels)
    read = torch.tensor([place in set(unknown) for place in kept], device=batch.images.device)
    return LabelledBatch(batch.select(kept, [labels[place] for place in kept]), read, idle)
