"""Let a teacher that reads label the words of a batch that have no label."""

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
    pseudo_labelled: Tensor
    """(N,) bool: labelled by the teacher."""
    placeholder: bool
    """Whether no word was left: the one word here only stands in, and must not count."""
    left_out: int
    """How many words without a label the teacher wasn't sure enough of."""


def label_words(
    batch: Batch, images: Tensor, teacher: ReadingTeacher, charset: Charset, max_length: int, confidence: float
) -> LabelledBatch:
    """Let a teacher label the words of a batch that have no label.

    What it reads goes through the label rules of the student's alphabet, as any label does. A word is left out when
    the teacher is less sure of it than `confidence`, found no end to it, or nothing is left of its reading.

    Args:
        batch: words, those without a label with "".
        images: (N, 3, H, W) as the teacher takes them.
        teacher: reads them.
        charset: the student's alphabet.
        max_length: the student's longest word.
        confidence: least product of the probabilities of a word's characters and its end.
    """
    unlabelled = [index for index, label in enumerate(batch.labels) if not label]
    labels: dict[int, str] = {index: label for index, label in enumerate(batch.labels) if label}
    for index, reading in zip(unlabelled, teacher.read_batch(images[unlabelled]), strict=True):
        cleaned = charset.clean(reading.text, max_length)
        ended = len(reading.text) <= teacher.reader.max_length
        if cleaned is not None and ended and reading.confidence >= confidence:
            labels[index] = cleaned
    placeholder, left_out = not labels, len(batch.labels) - len(labels)
    if placeholder:  # every process takes part in every step: any label will do
        labels = {0: charset.characters[0]}
    chosen = sorted(labels)
    read = torch.tensor([index in set(unlabelled) for index in chosen], device=batch.images.device)
    return LabelledBatch(batch.select(chosen, [labels[index] for index in chosen]), read, placeholder, left_out)
