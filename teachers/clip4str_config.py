"""What a CLIP4STR is built from, and how its folder says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from students.charset import CHARSETS
from students.errors import UserError
from students.reading import Decoding
from students.sizes import check_heads
from teachers.backbones import Backbone, ClipSizes, longest_context

PUBLISHED_CLIP = ClipSizes.of_zoo("ViT-B-16")
"""The CLIP of the base size."""
TextFeatures = Literal["tower", "embedding"]


@dataclass(frozen=True)
class Clip4StrConfig:
    """Everything needed to build a CLIP4STR again; the defaults are the published ones for ViT-B/16."""

    charset: str = CHARSETS["94"]
    """The characters themselves, in the order of their ids."""
    caption_charset: str = CHARSETS["36"]
    """Captions are adapted to these characters: the evaluation alphabet."""
    max_length: int = 25
    """Longest word in characters."""
    clip: Backbone = PUBLISHED_CLIP
    """The CLIP."""
    decoder_depth: int = 1
    """Layers of each decoder."""
    decoder_heads: int = 8
    """Heads of each decoder."""
    decoder_mlp_ratio: float = 4.0
    """Hidden over width in the decoders' MLPs."""
    dropout: float = 0.1
    """Dropout in the decoders and on their queries and content."""
    context: int = 16
    """Tokens of a caption, start, end and padding included."""
    share_dim: bool = True
    """The visual decoder looks at image tokens in the joint space; off: at the image tower's own width."""
    text_features: TextFeatures = "tower"
    """Text tokens behind the whole tower, or only their embeddings."""
    pooled: bool = False
    """Only the class token and the end-of-text token are looked at, instead of all."""
    image_detach: bool = True
    """The cross branch sends no gradient into the image tower."""
    language: bool = True
    """There is a cross branch; off leaves the visual branch alone (not in the published program)."""
    decoding: Decoding = "ar"
    """Characters one by one, or all at once (`nar`, not in the published program)."""
    refine_iters: int = 1
    """Readings again with the whole earlier reading as context."""

    def __post_init__(self) -> None:
        """Refuse sizes that no reader can have; raises `UserError`."""
        if self.max_length < 1 or self.decoder_depth < 1 or self.refine_iters < 0:
            raise UserError("give a longest word and a decoder depth of 1 or more, and 0 or more refine_iters")
        if not 0 <= self.dropout < 1:
            raise UserError(f"a dropout of {self.dropout}; give 0 to below 1, such as 0.1")
        if self.text_features not in get_args(TextFeatures) or self.decoding not in get_args(Decoding):
            choices = ", ".join((*get_args(TextFeatures), *get_args(Decoding)))
            raise UserError(f"{self.text_features!r} or {self.decoding!r} is unknown; there are {choices}")
        if self.context > longest_context(self.clip):
            raise UserError(
                f"captions of {self.context} tokens don't fit the text tower's {longest_context(self.clip)} positions"
            )
        if self.language and self.text_features == "embedding" and self.clip.text_width != self.clip.joint_width:
            raise UserError(
                f"token embeddings are {self.clip.text_width} wide, the cross branch {self.clip.joint_width}; "
                "take text_features=tower"
            )
        for width in {self.visual_width, self.clip.joint_width}:
            check_heads(width, self.decoder_heads, "a decoder")

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self.clip.image_size

    @property
    def visual_width(self) -> int:
        """Channels of the visual decoder."""
        return self.clip.joint_width if self.share_dim else self.clip.image_width
