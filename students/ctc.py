"""CTC students: an encoder and a column head, trained beside an attention decoder that is not exported, or alone.

A CTC reader that starts from nothing learns better beside an attention decoder on the same features (Hu et al. 2020,
"GTC: Guided Training of CTC", arXiv 2002.01276). So training runs a whole student with its query decoder and guidance;
the model that is validated, averaged and exported is its encoder with the column head. One that reads already can learn
on without a decoder, in less time a step.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from torch import Tensor, nn

from students.charset import Charset
from students.decoding import LogitsKind
from students.encoders import Encoder, plain_attention
from students.errors import UserError
from students.language_model import NO_MODEL, load_language_model
from students.padding import blank_padding
from students.reading import Reader
from students.stages import Stages, StudentShape
from students.student import (
    Student,
    StudentConfig,
    StudentDecoding,
    build_encoder,
    check_decoding,
    describe_encoder,
    encode_views,
    pool_stages,
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
    column_head: nn.Linear
    shape: StudentShape
    """Sizes of its stages, for training without a decoder."""

    def __init__(self, config: StudentConfig, student: Student | None = None) -> None:
        super().__init__()
        check_decoding(config, ("ctc",))
        self.config, self.charset, self.max_length = config, Charset(config.charset), config.max_length
        # Not set as one is chosen, which would change the configuration: a list of its own comes with the folder.
        self._language_model = load_language_model(config.language_model) if student is None else student.language_model
        if student is None or student.column_head is None:
            self.encoder = build_encoder(config)
            self.column_head = nn.Linear(self.encoder.width, len(self.charset.characters) + 1)
            nn.init.trunc_normal_(self.column_head.weight, std=0.02)
            nn.init.zeros_(self.column_head.bias)
            plain_attention(self)
        else:
            self.encoder, self.column_head = student.encoder, student.column_head
        self.shape = StudentShape(tokens=self.encoder.tokens, width=self.encoder.width, decoder_width=0)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the weights of two and more dimensions that are never decayed."""
        return {name for name, _ in self.named_parameters() if name.endswith(("cls_token", "pos_embed"))}

    def exported_model(self) -> CtcReader:
        """Return what is exported after training without a decoder: the reader itself."""
        return self

    def stages(self, images: Tensor, target_ids: Tensor, second: Tensor | None = None) -> Stages:
        """Run on (N, 3, H, W) pictures for training without a decoder; the labels `target_ids` are not looked at.

        Of a second view of the pictures only the columns are computed.
        """
        tokens, taps, second_tokens = encode_views(self.encoder, images, second)
        lengths = self.encoder.column_lengths(images)
        taps = pool_stages(self.encoder, tokens, taps, lengths)[1]
        second_columns = None if second_tokens is None else self.column_head(second_tokens[:, 1:])
        return Stages(None, taps, None, tokens[:, 0], self.column_head(tokens[:, 1:]), lengths, second_columns)

    @property
    def chooses_decoding(self) -> bool:
        """False: a CTC reader has one decoding only."""
        return False

    def summary(self) -> dict[str, str]:
        """Describe encoder and decoder in words, for the model card."""
        return {
            "encoder": describe_encoder(self.config, self.encoder),
            "decoder": "none: CTC on the encoder's columns",
            "language model": self.config.language_model,
        }

    def encode(self, images: Tensor) -> Tensor:
        """Encode (N, 3, H, W) pictures to (N, S, D), class token first."""
        return self.encoder.stages(images)[0]

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Compute logits (N, W, C + 1) of the columns of (N, 3, H, W) pictures, blank first, whatever `max_length`.

        In columns of padding the blank is certain.
        """
        columns: Tensor = self.column_head(self.encode(images)[:, 1:])
        lengths = self.encoder.column_lengths(images)
        return columns if lengths is None else blank_padding(columns, lengths)


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


Learner: TypeAlias = Student | CtcReader
"""What is trained: a student with its decoder, or a CTC reader without one."""
LEARNERS: dict[StudentDecoding, type[Student]] = {"ar": Student, "nar": Student, "ctc": CtcLearner}
"""The class that is trained for each decoding, with a decoder."""


def new_learner(config: StudentConfig, decoder: bool = True) -> Learner:
    """Build a student in training with weights drawn from torch's generator.

    Args:
        config: sizes, alphabet and decoding.
        decoder: False leaves the decoder out, which a CTC reader can learn without.

    Raises:
        UserError: when this student can't have that decoding, or reads with the decoder that is to be left out.
    """
    if decoder:
        return LEARNERS[config.decoding](config)
    if config.decoding != "ctc":
        raise UserError(
            f"a student with decoding {config.decoding} reads with its decoder; take decoding ctc to learn without one"
        )
    return CtcReader(config)


def learner(
    reader: Learner, decoding: StudentDecoding | None = None, refine_iters: int | None = None, decoder: bool = True
) -> Learner:
    """Build a student in training from a trained one, perhaps with another decoding.

    Args:
        reader: whose weights are copied; weights it lacks are drawn from torch's generator.
        decoding: the new decoding; None keeps the reader's.
        refine_iters: refinements; None keeps the reader's unless the decoding changes.
        decoder: False leaves the decoder out; see `new_learner`.

    Raises:
        UserError: when this student can't have that decoding, or reads with the decoder that is to be left out.
    """
    before = reader.config
    chosen = before.decoding if decoding is None else decoding
    if refine_iters is None:
        refine_iters = before.refine_iters if chosen == before.decoding else 0
    language_model = reader.language_model if chosen == "ctc" else None  # which is for CTC alone
    config = dataclasses.replace(
        before, decoding=chosen, refine_iters=refine_iters, column_head=before.column_head or chosen == "ctc",
        language_model=NO_MODEL if language_model is None else language_model.name,
    )  # fmt: skip
    student, weights = new_learner(config, decoder), reader.state_dict()
    student.load_state_dict({name: weights.get(name, drawn) for name, drawn in student.state_dict().items()})
    student.language_model = language_model
    return student
