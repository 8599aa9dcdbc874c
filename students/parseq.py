"""PARSeq: a ViT without class token, and two-stream decoder trained in permuted orders (docs/method.md, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from torch import Tensor, nn

from students.charset import CHARSETS, Charset
from students.encoders import check_heads, plain_attention, vision_transformer
from students.errors import UserError
from students.permuted import Order
from students.reading import Decoding, Reader
from students.two_stream import CharacterDecoder


@dataclass(frozen=True)
class ParseqConfig:
    """Everything needed to build a PARSeq again; stored as its folder's config.json. The defaults are the paper's."""

    charset: str = CHARSETS["94"]
    """The characters themselves, in the order of their ids."""
    max_length: int = 25
    """Longest word in characters."""
    image_size: tuple[int, int] = (32, 128)
    """Height and width of the input in pixels."""
    patch: tuple[int, int] = (4, 8)
    """Patch height and width."""
    width: int = 384
    """Channels of encoder and decoder."""
    depth: int = 12
    """Encoder blocks."""
    heads: int = 6
    """Encoder heads."""
    mlp_ratio: float = 4.0
    """Hidden over width in the encoder's MLPs."""
    decoder_depth: int = 1
    """Decoder layers."""
    decoder_heads: int = 12
    """Decoder heads."""
    decoder_mlp_ratio: float = 4.0
    """Hidden over width in the decoder's MLPs."""
    dropout: float = 0.1
    """Dropout in the decoder and on its queries and content."""
    decoding: Decoding = "ar"
    """`ar`: one character after the other; `nar`: all at once."""
    refine_iters: int = 1
    """Refinements with the whole earlier prediction as context."""

    def __post_init__(self) -> None:
        """Refuse sizes that no PARSeq can have; raises `UserError`."""
        if min(self.max_length, self.depth, self.decoder_depth) < 1 or self.refine_iters < 0:
            raise UserError("give a longest word and depths of 1 or more, and 0 or more refine_iters")
        if not 0 <= self.dropout < 1:
            raise UserError(f"a dropout of {self.dropout}; give 0 to below 1, such as 0.1")
        if self.decoding not in get_args(Decoding):
            raise UserError(f"decoding {self.decoding!r} is unknown; choose {' or '.join(get_args(Decoding))}")
        if any(side % step for side, step in zip(self.image_size, self.patch, strict=True)):
            raise UserError(f"pictures of {self.image_size} pixels don't fall into patches of {self.patch}")
        check_heads(self.width, self.heads, "the encoder")
        check_heads(self.width, self.decoder_heads, "the decoder")


class Parseq(CharacterDecoder, Reader):
    """A PARSeq; its weights have the names of the released state dict.

    Args:
        config: sizes, alphabet, and how it decodes.
    """

    FORMAT = "symdistill-parseq"
    CONFIG = ParseqConfig
    config: ParseqConfig

    def __init__(self, config: ParseqConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.encoder = vision_transformer(
            config.image_size, config.patch, config.width, config.depth, config.heads, config.mlp_ratio,
            class_token=False,
        )  # fmt: skip
        self.add_decoder(
            Charset(config.charset), config.max_length, config.width, config.decoder_depth, config.decoder_heads,
            config.decoder_mlp_ratio, config.dropout, updates_content=True,
        )  # fmt: skip
        self.init_weights()
        plain_attention(self)

    def no_weight_decay(self) -> set[str]:
        """Return positions and embeddings, as in the reference implementation."""
        return {"pos_queries", "encoder.pos_embed", "text_embed.embedding.weight"}

    def summary(self) -> dict[str, str]:
        """Describe encoder, decoder and decoding in words, for the model card."""
        config = self.config
        patches = f"patches of {config.patch[0]} x {config.patch[1]} pixels"
        return {
            "encoder": f"PARSeq, {config.width} wide, {config.depth} blocks, {patches}",
            "decoder": f"depth {config.decoder_depth}, trained in permuted orders",
            "decoding": f"{config.decoding}, refine_iters: {config.refine_iters}",
        }

    def encode(self, images: Tensor) -> Tensor:
        """Encode (N, 3, H, W) pictures to the decoder's memory (N, S, D): patches only, row by row."""
        return self.encoder.forward_features(images)

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Read (N, 3, H, W) pictures as configured: logits (N, steps, C + 1) of the last pass, see `decode`."""
        config, memory = self.config, self.memory_keys(self.encode(images))
        return self.decode(memory, config.decoding == "nar", config.refine_iters, max_length)

    def permuted(self, images: Tensor, target_ids: Tensor, orders: Sequence[Order]) -> list[Tensor]:
        """Predict known words in several orders, encoding the pictures once: logits (N, T, C + 1) of each.

        Args:
            images: (N, 3, H, W).
            target_ids: (N, L + 2) start, characters, end, padding.
            orders: see `students.permuted`.
        """
        memory = self.memory_keys(self.encode(images))
        return [self.teacher_forced(memory, target_ids, order.query_mask, order.content_mask) for order in orders]


def base(charset: Charset, max_length: int = 25) -> ParseqConfig:
    """Return the paper's PARSeq: 23.8 M parameters with 94 characters."""
    return ParseqConfig(charset=charset.characters, max_length=max_length)


def tiny(charset: Charset, max_length: int = 25) -> ParseqConfig:
    """Return the paper's small one: 192 wide, 6.0 M parameters with 94 characters."""
    return ParseqConfig(charset=charset.characters, max_length=max_length, width=192, heads=3, decoder_heads=6)


SIZES = {"base": base, "tiny": tiny}
"""The sizes that PARSeq is trained in."""
