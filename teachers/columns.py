"""Teachers that read by CTC: their distributions over the characters of a label, and over the classes of each column.

They have no decoder that could be run on a label. What they say of its characters is pooled from their columns, over
all alignments with the label. Source: docs/method.md, section 4.6.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from students.alignment import RAREST, label_characters, occupancy, pool_columns
from students.ctc import CtcReader
from students.stages import Taps
from teachers.guidance import TeacherShape
from teachers.reading import ReaderFeatures, ReadingTeacher

NOT_THE_END = math.log(RAREST)
"""Log-probability of the end where the label has a character: CTC has no end, and a comparison needs a number."""


@dataclass(frozen=True)
class Frames:
    """What a CTC reader says of N pictures."""

    log_probs: Tensor
    """(N, W, C_t + 1) log-probabilities of its columns over its own alphabet, the blank first."""
    lengths: Tensor | None = None
    """(N,) how many of a picture's columns are its own, the others are padding on the right; None for all."""
    image: Taps | None = None
    """See `Guidance.image`."""
    word: Tensor | None = None
    """See `Guidance.word`."""


class CtcTeacher(ReadingTeacher):
    """A frozen reader by CTC that guides another one; subclasses run it in `frames`, whatever it is computed by.

    Its mask is False at the end, which CTC does not have, and for labels that it can't spell from first to last, that
    are longer than its longest word, or that have no alignment with its columns.
    """

    @abstractmethod
    def frames(self, images: Tensor) -> Frames:
        """Run on pictures as `fit` returns them."""

    def features(self, images: Tensor, target_ids: Tensor) -> ReaderFeatures:
        """Run for columns, and pool them over their alignments with the labels."""
        frames = self.frames(images)
        log_probs = frames.log_probs.to(torch.promote_types(frames.log_probs.dtype, torch.float32))
        count, columns, classes = log_probs.shape
        lengths = torch.full((count,), columns, device=images.device) if frames.lengths is None else frames.lengths
        targets, characters = label_characters(target_ids, classes - 1)
        with torch.autocast(images.device.type, enabled=False):  # in half precision small probabilities become 0
            weights = occupancy(log_probs, targets, lengths, characters)
            pooled = F.pad(pool_columns(log_probs, weights), (1, 0, 0, 1), value=NOT_THE_END)
        mask = F.pad((weights > 0).any(dim=1), (0, 1))
        return ReaderFeatures(pooled, frames.image, None, frames.word, mask, log_probs)

    def spell(self, label: str) -> str:
        """Write a label in the reader's alphabet; "" unless all of it can be written.

        The columns are those of the whole word, so its beginning has no alignment with them.
        """
        written = super().spell(label)
        return written if len(written) == len(label) else ""


class CtcReaderTeacher(CtcTeacher):
    """A CTC student as the teacher of another one: its columns, and each stage of its encoder guides the same stage.

    Args:
        name: used in messages, names of terms, and tables.
        reader: frozen here, in place.
    """

    reader: CtcReader

    def __init__(self, name: str, reader: CtcReader) -> None:
        own = reader.shape
        shape = TeacherShape(own.tokens, own.width, joint_width=own.width, columns=own.tokens - 1)
        super().__init__(name, reader, shape, "a CTC student")

    def frames(self, images: Tensor) -> Frames:
        """Run for columns, encoder taps and summary token."""
        stages = self.reader.stages(images, images.new_zeros(len(images), 2, dtype=torch.long))
        if stages.columns is None:
            raise RuntimeError("a CTC reader has columns")
        return Frames(stages.columns.float().log_softmax(dim=-1), stages.column_lengths, stages.encoder, stages.word)
