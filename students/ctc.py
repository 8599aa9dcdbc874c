"""CTC students: an encoder and a column head, trained beside an attention decoder that is not exported.

A CTC reader learns better beside an attention decoder on the same features (Hu et al. 2020, "GTC: Guided Training of
CTC", arXiv 2002.01276). So training runs a whole student with its query decoder and guidance; the model that is
validated, averaged and exported is its encoder with the column head.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor, nn

from students.charset import Charset
from students.decoding import LogitsKind
from students.encoders import Encoder, plain_attention
from students.reading import Reader
from students.student import (
    Student,
    StudentConfig,
    StudentDecoding,
    build_encoder,
    check_decoding,
    describe_encoder,
)


class CtcReader(Reader):
    """A reader by CTC: encoder and column head.

    Args:
        config: sizes and alphabet; the decoder's sizes are of the one it was trained beside.
        student: whose encoder and column head it shares; None makes new ones.

    Raises:
        UserError: for the configuration of a student with another decoding.
    """

    FORMAT = "symdistill-ctc"
    CONFIG = StudentConfig
    LOGITS: ClassVar[LogitsKind] = "ctc"
    config: StudentConfig
    encoder: Encoder
    column_head: nn.Module

    def __init__(self, config: StudentConfig, student: Student | None = None) -> None:
        super().__init__()
        check_decoding(config, ("ctc",))
        self.config, self.charset, self.max_length = config, Charset(config.charset), config.max_length
        if student is None or student.column_head is None:
            self.encoder = build_encoder(config)
            self.column_head = nn.Linear(self.encoder.width, len(self.charset.characters) + 1)
            plain_attention(self)
        else:
            self.encoder, self.column_head = student.encoder, student.column_head

    @property
    def chooses_decoding(self) -> bool:
        """False: a CTC reader has one decoding only."""
        return False

    def summary(self) -> dict[str, str]:
        """Describe encoder and decoder in words, for the model card."""
        return {
            "encoder": describe_encoder(self.config, self.encoder),
            "decoder": "none: CTC on the encoder's columns",
        }

    def encode(self, images: Tensor) -> Tensor:
        """Encode (N, 3, H, W) pictures to (N, S, D), class token first."""
        return self.encoder.stages(images)[0]

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Compute logits (N, W, C + 1) of the columns of (N, 3, H, W) pictures, blank first, whatever `max_length`."""
        columns: Tensor = self.column_head(self.encode(images)[:, 1:])
        return columns


class CtcLearner(Student):
    """A student in training that reads, and is exported, as a `CtcReader`."""

    FORMAT = CtcReader.FORMAT
    DECODINGS: ClassVar[tuple[StudentDecoding, ...]] = ("ctc",)
    LOGITS: ClassVar[LogitsKind] = CtcReader.LOGITS

    def exported_model(self) -> CtcReader:
        """Return the reader on the same encoder and column head, in the student's mode."""
        reader = CtcReader(self.config, self)
        reader.training = self.training
        return reader

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Compute the exported reader's logits."""
        logits: Tensor = self.exported_model()(images, max_length)
        return logits

    def save_pretrained(self, folder: str | Path, dtype: Literal["float32", "float16"] = "float32") -> None:
        """Write the exported reader."""
        self.exported_model().save_pretrained(folder, dtype)


LEARNERS: dict[StudentDecoding, type[Student]] = {"ar": Student, "nar": Student, "ctc": CtcLearner}
"""The class that is trained for each decoding."""


def learner(
    reader: Student | CtcReader, decoding: StudentDecoding | None = None, refine_iters: int | None = None
) -> Student:
    """Build a student in training from a trained one, perhaps with another decoding.

    Args:
        reader: whose weights are copied; weights it lacks are drawn from torch's generator.
        decoding: the new decoding; None keeps the reader's.
        refine_iters: refinements; None keeps the reader's unless the decoding changes.

    Raises:
        UserError: when this student can't have that decoding.
    """
    before = reader.config
    chosen = before.decoding if decoding is None else decoding
    if refine_iters is None:
        refine_iters = before.refine_iters if chosen == before.decoding else 0
    config = dataclasses.replace(
        before, decoding=chosen, refine_iters=refine_iters, column_head=before.column_head or chosen == "ctc"
    )
    student = LEARNERS[chosen](config)
    student.load_state_dict({**student.state_dict(), **reader.state_dict()})
    return student
