"""Guidance by the distributions that `label` stored with the words; no teacher runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distill.data.batch import Batch
from students.charset import Charset
from teachers.guidance import Guidance, TeacherShape
from teachers.teacher import Teacher


class StoredTeacher(Teacher):
    """The readers whose distributions stand with the words, in the student's own alphabet; it is never run.

    Args:
        charset: the student's alphabet.
    """

    def __init__(self, charset: Charset) -> None:
        super().__init__("stored", "distributions that are stored with the words")
        self.shape = TeacherShape(charset=charset)
        self.freeze()

    def forward(self, images: Tensor, labels: Sequence[str]) -> Guidance:
        """Refuse: distributions come with a batch, see `stored_guidance`."""
        raise RuntimeError("stored distributions come with the words; nothing is computed from pictures")


def stored_guidance(batch: Batch, classes: int) -> Guidance:
    """Build guidance from the distributions of a batch; positions without one are left out by the mask.

    Args:
        batch: words with labels.
        classes: C + 1, the student's characters and the end.
    """
    positions = max(map(len, batch.labels)) + 1
    if batch.distributions is None:
        shape, device = (len(batch), positions), batch.images.device
        mask = torch.zeros(shape, dtype=torch.bool, device=device)
        return Guidance(None, None, None, mask, torch.zeros(*shape, classes, device=device))
    characters, mask = batch.distributions.dense(positions, classes)
    return Guidance(None, None, None, mask, characters)
