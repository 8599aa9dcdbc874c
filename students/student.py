"""Student: an encoder with taps and a query decoder, from the paper's size down to the sizes made for deployment.

How a student decodes determines the contexts it learns in. An autoregressive one (`ar`) attends to the characters
before each position, as in the paper. A non-autoregressive one (`nar`) attends to none in its first pass, and to all
others when it refines. Content is never updated between the layers here, so no position depends on what another one
attended to: each can have a context of its own, and both kinds are learned in one pass, where PARSeq needs a pass an
order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from students.charset import CHARSETS, Charset
from students.decoder import blind_mask, causal_mask, cloze_mask
from students.encoders import (
    ConvEncoder,
    Encoder,
    TapSpacing,
    TimmEncoder,
    check_heads,
    plain_attention,
    tap_depths,
    timm_model,
    vision_transformer,
)
from students.errors import UserError
from students.free_width import POOLED_COLUMNS, FreeWidthEncoder
from students.language_model import NO_MODEL
from students.pictures import COLUMN
from students.reading import Decoding, Reader
from students.stages import Stages, StudentShape, Taps
from students.two_stream import CharacterDecoder

StudentDecoding = Literal[Decoding, "ctc"]
"""How a student learns and reads: one character after the other, all at once, or by CTC on the encoder's columns."""
BLIND_RATIO = 0.5
"""Ratio of positions that attend to the start alone in training, in students that refine; others see the whole word."""


@dataclass(frozen=True)
class StudentConfig:
    """Everything needed to build a student again; stored as its folder's config.json. The defaults are the paper's."""

    charset: str = CHARSETS["36"]
    """The characters themselves, in the order of their ids."""
    max_length: int = 25
    """Longest word in characters."""
    image_size: tuple[int, int] = (32, 128)
    """Height and width of the input in pixels; of the widest picture with `keep_aspect`."""
    keep_aspect: bool = False
    """Pictures keep their aspect and are as wide as it makes them, for decoding `ctc` on encoder `conv`."""
    encoder: str = "vit"
    """`vit` (the paper's), `conv` (stem of convolutions to columns), or the name of a timm ViT."""
    patch: tuple[int, int] = (4, 8)
    """Patch height and width of `vit`."""
    stem: tuple[int, int, int] = (32, 64, 128)
    """Channels of the three levels of `conv`."""
    stem_blocks: tuple[int, int] = (1, 1)
    """Convolutions with a shortcut in the second and third level of `conv`."""
    width: int = 384
    """Channels of encoder and decoder; a timm ViT by name keeps its own."""
    depth: int = 12
    """Encoder blocks."""
    heads: int = 6
    """Encoder heads."""
    mlp_ratio: float = 4.0
    """Hidden over width in the encoder's MLPs."""
    decoder_depth: int = 4
    """Decoder layers."""
    decoder_heads: int = 12
    """Decoder heads."""
    decoder_mlp_ratio: float = 4.0
    """Hidden over width in the decoder's MLPs."""
    dropout: float = 0.1
    """Dropout in the decoder and on its queries and content."""
    column_head: bool = False
    """A linear character head on the encoder's columns: for an auxiliary loss in training, or decoding `ctc`."""
    taps: TapSpacing = "published"
    """How three stages are spaced over a depth that is no multiple of four, see `tap_depths`."""
    decoding: StudentDecoding = "ar"
    """`ar`: one character after the other (the paper's); `nar`: all at once; `ctc`: off the encoder's columns."""
    turn_tall: bool = False
    """Read tall pictures turned to either side too, see `students.turning`."""
    language_model: str = NO_MODEL
    """Language model that decoding `ctc` reads with, see `load_language_model`; or `none`."""
    refine_iters: int = 0
    """Refinements with the whole earlier prediction as context, for decoding `nar`."""

    def __post_init__(self) -> None:
        """Refuse sizes that no student can have; raises `UserError`."""
        if self.max_length < 1:
            raise UserError(f"a longest word of {self.max_length} characters; give 1 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"a dropout of {self.dropout}; give 0 to below 1, such as 0.1")
        if self.encoder in ("vit", "conv"):
            check_heads(self.width, self.heads, "the encoder")
        if len(self.image_size) != 2:
            raise UserError(f"pictures of {self.image_size} pixels; give height and width, such as (32, 128)")
        height, width = self.image_size
        if self.encoder == "conv" and (height % 8 or (width < height if self.keep_aspect else width % 4)):
            raise UserError(
                f"pictures of {height} x {width} pixels; give encoder conv a height that 8 divides, and a width that 4 "
                "divides or, with keep_aspect, that is at least the height"
            )
        if self.encoder == "conv" and (len(self.stem) != 3 or min(self.stem) < 1):
            raise UserError(f"a stem of channels {list(self.stem)}; give three numbers, such as 24, 48, 96")
        if self.encoder == "conv" and (len(self.stem_blocks) != 2 or min(self.stem_blocks) < 1):
            raise UserError(f"stem blocks of {list(self.stem_blocks)}; give two numbers from 1 on, such as 1, 2")
        if self.keep_aspect and self.decoding != "ctc":
            raise UserError(
                f"pictures that keep their aspect are read by CTC, not {self.decoding}; set decoding ctc, or leave "
                "keep_aspect out"
            )
        if self.language_model != NO_MODEL and self.decoding != "ctc":
            raise UserError(
                f"a language model is for decoding ctc, not {self.decoding}; set decoding ctc, or language_model none"
            )
        if self.taps not in get_args(TapSpacing):
            raise UserError(f"taps {self.taps!r} are unknown; choose {' or '.join(get_args(TapSpacing))}")
        if self.decoding not in get_args(StudentDecoding):
            raise UserError(f"decoding {self.decoding!r} is unknown; choose {', '.join(get_args(StudentDecoding))}")
        if self.refine_iters < 0 or (self.refine_iters > 0 and self.decoding != "nar"):
            raise UserError(
                f"{self.refine_iters} refine_iters of decoding {self.decoding}; give 0, or decoding nar 0 or more"
            )
        if self.decoding == "ctc" and (self.encoder != "conv" or not self.column_head):
            raise UserError(
                "decoding ctc needs the column head of encoder conv, which sizes tiny and small have; take one of "
                "them, or another decoding"
            )
        if self.column_head and self.encoder != "conv":
            raise UserError(f"a column head needs the columns of encoder conv; {self.encoder} has patches")


def paper(charset: Charset, max_length: int = 25) -> StudentConfig:
    """Return the paper's student (docs/method.md, section 1.4): 30.89 M parameters with 36 characters."""
    return StudentConfig(charset=charset.characters, max_length=max_length)


def small(charset: Charset, max_length: int = 25) -> StudentConfig:
    """Return a student for deployment on a good CPU: convolution stem, 384 wide, 8 blocks."""
    return StudentConfig(
        charset=charset.characters, max_length=max_length, encoder="conv", stem=(48, 96, 192), width=384, depth=8,
        heads=6, mlp_ratio=3.0, decoder_depth=4, decoder_heads=6, decoder_mlp_ratio=2.0, dropout=0.1,
        column_head=True, taps="even",
    )  # fmt: skip


def tiny(charset: Charset, max_length: int = 25) -> StudentConfig:
    """Return the smallest student: convolution stem to 32 columns, 192 wide, under 4 M parameters."""
    return StudentConfig(
        charset=charset.characters, max_length=max_length, encoder="conv", stem=(32, 64, 128), width=192, depth=6,
        heads=6, mlp_ratio=3.0, decoder_depth=3, decoder_heads=6, decoder_mlp_ratio=2.0, dropout=0.0,
        column_head=True, taps="even",
    )  # fmt: skip


SIZES = {"paper": paper, "small": small, "tiny": tiny}
"""The sizes of `student.size`."""


def check_decoding(config: StudentConfig, supported: tuple[StudentDecoding, ...]) -> None:
    """Refuse the configuration of another class of student; raises `UserError`."""
    if config.decoding not in supported:
        raise UserError(f"decoding {config.decoding} is of another kind of student; this one's: {', '.join(supported)}")


def build_encoder(config: StudentConfig) -> Encoder:
    """Build the encoder that `config` names, with its taps."""
    if config.encoder == "conv":
        taps = tap_depths(config.depth, config.taps, "an encoder")
        kind = FreeWidthEncoder if config.keep_aspect else ConvEncoder
        return kind(
            config.image_size, config.stem, config.width, config.depth, config.heads, config.mlp_ratio, taps,
            config.stem_blocks,
        )  # fmt: skip
    if config.encoder == "vit":
        model: nn.Module = vision_transformer(
            config.image_size, config.patch, config.width, config.depth, config.heads, config.mlp_ratio
        )
    else:
        model = timm_model(config.encoder, config.image_size)
    return TimmEncoder(model, config.image_size, config.taps)


def encode_views(encoder: Encoder, images: Tensor, second: Tensor | None) -> tuple[Tensor, Taps, Tensor | None]:
    """Encode pictures, and a second view of them in the same pass: tokens and taps of the first, tokens of the second.

    A BatchNorm takes its statistics over both.
    """
    if second is None:
        return *encoder.stages(images), None
    tokens, taps = encoder.stages(torch.cat([images, second]))
    one, two, three = (tap[: len(images)] for tap in taps)
    return tokens[: len(images)], (one, two, three), tokens[len(images) :]


def pool_stages(encoder: Encoder, tokens: Tensor, taps: Taps, lengths: Tensor | None) -> tuple[Tensor, Taps]:
    """Pool final tokens and taps of pictures of any width to the number that guidance compares; others stay."""
    if lengths is None:
        return tokens, taps
    first, second, third = (encoder.pool(tap, lengths) for tap in taps)
    return encoder.pool(tokens, lengths), (first, second, third)


def guided_size(config: StudentConfig) -> tuple[int, int]:
    """Return height and width of the pictures that a teacher of pictures of one size is shown."""
    height, width = config.image_size
    return height, COLUMN * POOLED_COLUMNS if config.keep_aspect else width


def describe_encoder(config: StudentConfig, encoder: Encoder) -> str:
    """Describe an encoder in one line, for model cards."""
    tokens = "a column for every 4 pixels" if config.keep_aspect else f"{encoder.tokens} tokens"
    return f"{config.encoder}, {encoder.width} wide, {config.depth} blocks, {tokens}"


class Student(CharacterDecoder, Reader):
    """A reader of word pictures whose stages can be guided by a teacher (docs/method.md, section 1.4).

    Args:
        config: sizes and alphabet.

    Raises:
        UserError: when encoder or decoder is too shallow for three stages, or its heads don't divide its width.
    """

    FORMAT = "symdistill-student"
    CONFIG = StudentConfig
    DECODINGS: ClassVar[tuple[StudentDecoding, ...]] = ("ar", "nar")
    """Decodings of this class."""
    config: StudentConfig

    def __init__(self, config: StudentConfig) -> None:
        nn.Module.__init__(self)
        check_decoding(config, self.DECODINGS)
        self.config, self._refines = config, config.refine_iters > 0
        self.encoder = build_encoder(config)
        width = self.encoder.width
        check_heads(width, config.decoder_heads, "the decoder")
        self.decoder_taps = tap_depths(config.decoder_depth, config.taps, "a decoder")
        charset = Charset(config.charset)
        self.add_decoder(
            charset, config.max_length, width, config.decoder_depth, config.decoder_heads, config.decoder_mlp_ratio,
            config.dropout, updates_content=False,
        )  # fmt: skip
        self.column_head = nn.Linear(width, len(charset.characters) + 1) if config.column_head else None
        self.shape = StudentShape(tokens=self.encoder.tokens, width=width, decoder_width=width)
        self.init_weights()
        plain_attention(self)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the weights of two and more dimensions that are never decayed."""
        ends = ("cls_token", "pos_embed", "pos_queries", "text_embed.embedding.weight")
        return {name for name, _ in self.named_parameters() if name.endswith(ends)}

    def summary(self) -> dict[str, str]:
        """Describe encoder, decoder and decoding in words, for the model card."""
        config, shape = self.config, self.shape
        return {
            "encoder": describe_encoder(config, self.encoder),
            "decoder": f"{config.decoder_depth} layers, {shape.decoder_width} wide",
            "decoding": config.decoding + (f", refine_iters: {config.refine_iters}" if config.refine_iters else ""),
        }

    @property
    def chooses_decoding(self) -> bool:
        """Whether `refine_iters` can be chosen: for students that learned to refine."""
        return self._refines

    def exported_model(self) -> Reader:
        """Return the model that is exported after training, on the same weights."""
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Encode (N, 3, H, W) pictures to the decoder's memory (N, S, D), class token first."""
        return self.encoder.stages(images)[0]

    def stages(self, images: Tensor, target_ids: Tensor, second: Tensor | None = None) -> Stages:
        """Run teacher-forced on (N, 3, H, W) pictures and (N, L + 2) ids (start, characters, end, padding).

        Of a second view of the pictures only the columns are computed.
        """
        tokens, encoder_taps, second_tokens = encode_views(self.encoder, images, second)
        lengths = self.encoder.column_lengths(images)
        memory, encoder_taps = pool_stages(self.encoder, tokens, encoder_taps, lengths)
        ids = target_ids[:, :-1]
        outputs = self.streams(self.memory_keys(memory), ids, self.context_mask(ids), None, self.key_padding_mask(ids))
        first, second, third = (self.decoder.norm(outputs[tap - 1]) for tap in self.decoder_taps)
        return Stages(
            logits=self.logits(outputs),
            encoder=encoder_taps,
            decoder=(first, second, third),
            word=memory[:, 0],
            columns=self.column_head(tokens[:, 1:]) if self.column_head is not None else None,
            column_lengths=lengths,
            second_columns=None if second_tokens is None or self.column_head is None
            else self.column_head(second_tokens[:, 1:]),
        )  # fmt: skip

    def context_mask(self, ids: Tensor) -> Tensor:
        """Return the mask of the content (N, L) for each of T = L positions, for known words.

        Returns:
            (T, L), True = masked out. For a student that refines, in training: (N, 1, T, L), drawn for each position
            from torch's generator as dropout is; in eval mode all see the rest of the word, as in the last pass.
        """
        length, device = ids.shape[1], ids.device
        if self.config.decoding != "nar":
            return causal_mask(length, device)
        blind, cloze = blind_mask(length, device), cloze_mask(length, device)
        if self.config.refine_iters == 0:
            return blind
        if not self.training:
            return cloze
        return torch.where(torch.rand(len(ids), 1, length, 1, device=device) < BLIND_RATIO, blind, cloze)

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Read (N, 3, H, W) pictures as configured: logits (N, steps, C + 1) of the last pass, see `decode`."""
        config, memory = self.config, self.memory_keys(self.encode(images))
        return self.decode(memory, config.decoding == "nar", config.refine_iters, max_length)
