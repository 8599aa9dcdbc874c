"""Sizes: what a student is built from, the published one and those made for deployment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from students.charset import Charset
from students.encoders import TapSpacing
from students.errors import UserError

StudentDecoding = Literal["ar", "nar", "ctc"]
"""Characters one by one, all positions at once, or off the encoder's columns."""


@dataclass(frozen=True)
class StudentConfig:
    """Everything needed to build a student again; stored as its folder's config.json."""

    charset: str = "0123456789abcdefghijklmnopqrstuvwxyz"
    """The characters themselves, in the order of their ids."""
    max_length: int = 25
    """Longest word in characters."""
    image_size: tuple[int, int] = (32, 128)
    """Height and width of the input in pixels."""
    encoder: str = "vit"
    """`vit` (timm ViT on patches), `conv` (convolution stem to columns), or the name of a timm ViT."""
    patch: tuple[int, int] = (4, 8)
    """Patch height and width of `vit`."""
    stem: tuple[int, int, int] = (32, 64, 128)
    """Channels of the three levels of `conv`."""
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
    """A linear character head on the encoder's columns: an aid in training, or what decoding `ctc` reads with."""
    taps: TapSpacing = "published"
    """How three stages are spaced over a depth that is no multiple of four."""
    decoding: StudentDecoding = "ar"
    """How it learns and reads: characters one by one (published), all positions at once, or by CTC off the columns."""
    refine_iters: int = 0
    """Readings again with the whole earlier reading as context, for decoding `nar`."""

    def __post_init__(self) -> None:
        """Refuse sizes that no student can have; raises `UserError`."""
        if self.max_length < 1:
            raise UserError(f"a longest word of {self.max_length} characters; give 1 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"a dropout of {self.dropout}; give 0 to below 1, such as 0.1")
        if self.encoder in ("vit", "conv"):
            check_heads(self.width, self.heads, "the encoder")
        if self.encoder == "conv" and (len(self.stem) != 3 or min(self.stem) < 1):
            raise UserError(f"a stem of channels {list(self.stem)}; give three numbers, such as 24, 48, 96")
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
                "decoding ctc reads off the column head of encoder conv, which sizes tiny and small have; take one of "
                "them, or another decoding"
            )
        if self.column_head and self.encoder != "conv":
            raise UserError(f"a column head needs the columns of encoder conv; {self.encoder} gives patches")


def check_heads(width: int, heads: int, what: str) -> None:
    """Refuse a width that its heads don't divide; raises `UserError`."""
    if width < 1 or heads < 1 or width % heads:
        raise UserError(f"{what} is {width} wide, which {heads} heads don't divide; take another width")


def check_decoding(config: StudentConfig, able: tuple[StudentDecoding, ...]) -> None:
    """Refuse the configuration of another kind of student; raises `UserError`."""
    if config.decoding not in able:
        raise UserError(f"decoding {config.decoding} is of another kind of student; this one's is {' or '.join(able)}")


def paper(charset: Charset, max_length: int = 25) -> StudentConfig:
    """Give the published student (METHOD 1.4): 30.89 M parameters with 36 characters."""
    return StudentConfig(charset=charset.characters, max_length=max_length)


def small(charset: Charset, max_length: int = 25) -> StudentConfig:
    """Give a student for deployment on a good CPU: convolution stem, 384 wide, 8 blocks."""
    return StudentConfig(
        charset=charset.characters, max_length=max_length, encoder="conv", stem=(48, 96, 192), width=384, depth=8,
        heads=6, mlp_ratio=3.0, decoder_depth=4, decoder_heads=6, decoder_mlp_ratio=2.0, dropout=0.1,
        column_head=True, taps="even",
    )  # fmt: skip


def tiny(charset: Charset, max_length: int = 25) -> StudentConfig:
    """Give the smallest student: convolution stem to 32 columns, 192 wide, under 4 M parameters."""
    return StudentConfig(
        charset=charset.characters, max_length=max_length, encoder="conv", stem=(32, 64, 128), width=192, depth=6,
        heads=6, mlp_ratio=3.0, decoder_depth=3, decoder_heads=6, decoder_mlp_ratio=2.0, dropout=0.0,
        column_head=True, taps="even",
    )  # fmt: skip


SIZES = {"paper": paper, "small": small, "tiny": tiny}
