"""Students that read off the encoder's columns: handed out without a decoder, which guides them in training only.

A CTC reader learns better beside a decoder that reads the same picture and passes on what it is taught (Hu et al. 2020,
"GTC: Guided Training of CTC", arXiv 2002.01276). So the student that learns is a whole one, query decoder, guidance and
all; what is validated, averaged and handed out of it is its encoder with the column head.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor, nn

from students.charset import Charset, LogitsKind
from students.encoders import Encoder, plain_attention
from students.reading import Reader
from students.sizes import StudentConfig, StudentDecoding, check_decoding
from students.student import Student, build_encoder, describe_encoder


class CtcReader(Reader):
    """A reader of columns: encoder and column head.

    Args:
        config: sizes and alphabet; those of the decoder say what it learned beside.
        student: whose encoder and column head it is on; None makes new ones.

    Raises:
        UserError: for the configuration of a student that reads otherwise.
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
            self.column_head = nn.Linear(self.encoder.width, len(config.charset) + 1)
            plain_attention(self)
        else:
            self.encoder, self.column_head = student.encoder, student.column_head

    @property
    def chooses_decoding(self) -> bool:
        """There is one way only."""
        return False

    def summary(self) -> dict[str, str]:
        """Tell in words what it is made of, for its card."""
        return {
            "encoder": describe_encoder(self.config, self.encoder),
            "decoder": "none: characters are read off the columns (CTC)",
        }

    def encode(self, images: Tensor) -> Tensor:
        """Encode (N, 3, H, W) pictures to (N, S, D), class token first."""
        return self.encoder.stages(images)[0]

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Read (N, 3, H, W) pictures: logits (N, W, C + 1) of their columns, the blank first, whatever `max_length`."""
        columns: Tensor = self.column_head(self.encode(images)[:, 1:])
        return columns


class CtcLearner(Student):
    """A student in training that reads, and is handed out, as a `CtcReader`."""

    FORMAT = CtcReader.FORMAT
    DECODINGS: ClassVar[tuple[StudentDecoding, ...]] = ("ctc",)
    LOGITS: ClassVar[LogitsKind] = CtcReader.LOGITS

    def exported_model(self) -> CtcReader:
        """Give the reader on its encoder and column head, in the mode that it is in."""
        reader = CtcReader(self.config, self)
        reader.training = self.training
        return reader

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Read as what is handed out does."""
        logits: Tensor = self.exported_model()(images, max_length)
        return logits

    def save_pretrained(self, folder: str | Path, dtype: Literal["float32", "float16"] = "float32") -> None:
        """Write what is handed out."""
        self.exported_model().save_pretrained(folder, dtype)


LEARNERS: dict[StudentDecoding, type[Student]] = {"ar": Student, "nar": Student, "ctc": CtcLearner}
"""What learns to read, by how it will."""


def learner(
    reader: Student | CtcReader, decoding: StudentDecoding | None = None, refine_iters: int | None = None
) -> Student:
    """Make a student of a trained one that goes on learning, perhaps to read in another way.

    Args:
        reader: whose weights are taken; what it hasn't got is drawn from torch's generator.
        decoding: how it will read; None keeps the reader's.
        refine_iters: how often it will read again; None keeps the reader's unless the decoding changes.

    Raises:
        UserError: when such a student can't read so.
    """
    before = reader.config
    chosen = before.decoding if decoding is None else decoding
    if refine_iters is None:
        refine_iters = before.refine_iters if chosen == before.decoding else 0
    config = dataclasses.replace(
        before, decoding=chosen, refine_iters=refine_iters, column_head=before.column_head or chosen == "ctc"
    )
    made = LEARNERS[chosen](config)
    made.load_state_dict({**made.state_dict(), **reader.state_dict()})
    return made
