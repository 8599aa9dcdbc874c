"""Sections of a configuration that only the training of a teacher reads; see `distill.training.sections`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class ContrastiveSection:
    """The contrastive objective of a small CLIP of words."""

    hard_negatives: int = field(default=3, metadata={"least": 0})
    """Words of a few edits per picture that join the negative texts; one at first, all when `columns` ends."""
    max_edits: int = field(default=2, metadata={"least": 1})
    """Most edits between a word and its hard negative."""
    ctc: float = field(default=0.5, metadata={"least": 0})
    """Weight of CTC on the picture's columns, in training only; it rises as the column term falls."""
    columns: float = field(default=1.0, metadata={"least": 0})
    """Initial weight of the column term, in training only."""
    columns_until: float = field(default=0.4, metadata={"least": 0})
    """Share of the run after which the weight of `columns` has fallen linearly to 0."""
    spelling: float = field(default=0.5, metadata={"least": 0})
    """Weight of spelling words from embeddings, in training only."""
    text_queue: int = field(default=0, metadata={"least": 0})
    """Texts of earlier steps that serve as further negatives; thousands cost little."""
    train_text: bool = True
    """Train the text tower too; false only moves pictures nearer to the words of `init`, at two thirds of the time."""


@dataclass
class PermutationsSection:
    """Permuted orders, in which a reader learns to predict characters (docs/method.md, 2 and 3)."""

    count: int = field(default=6, metadata={"least": 1})
    """Orders per batch; short words have fewer."""
    forward: bool = True
    """Left-to-right is always one of them."""
    mirrored: bool = True
    """Each order comes with its mirror image."""


@dataclass
class Clip4StrSection:
    """A CLIP that becomes a reader (docs/method.md, 2); defaults as in the reference implementation's base size."""

    clip: str = "ViT-B-16-quickgelu/openai"
    """The CLIP to start from: NAME/TAG of open_clip, a weights file, `words-small`, or such a folder."""
    weights: str | None = None
    """A local weights file for a NAME or NAME/TAG, which then says what the file leaves open."""
    image_size: list[int] | None = None
    """Height and width to read at, multiples of its patches; null keeps those of the CLIP or of `init`."""
    charset: str = "94"
    """Alphabet: 36, 62, 94, 95 (94 and the space), or a text file that holds its characters."""
    caption_charset: str = "36"
    """Alphabet that captions for the text tower are adapted to: the one of the evaluation."""
    max_length: int = field(default=25, metadata={"least": 1})
    """Longest word, in characters."""
    decoder_depth: int = field(default=1, metadata={"least": 1})
    """Layers of each decoder."""
    decoder_heads: int = field(default=8, metadata={"least": 1})
    """Heads of each decoder."""
    dropout: float = 0.1
    """Dropout in the decoders."""
    context: int = field(default=16, metadata={"least": 3})
    """Tokens of a caption, start, end and padding included; longer ones are cut."""
    share_dim: bool = True
    """The visual decoder attends to image tokens in the joint space; false: at the image tower's own width."""
    text_features: Literal["tower", "embedding"] = "tower"
    """Text tokens from the whole text tower, or only their embeddings."""
    pooled: bool = False
    """Attend to the class token and the end-of-text token only, instead of all tokens."""
    image_detach: bool = True
    """The cross branch sends no gradient into the image tower."""
    language: bool = True
    """Have a cross branch; false trains the visual branch alone (not in the reference implementation)."""
    decoding: Literal["ar", "nar"] = "ar"
    """Autoregressive or all characters at once, in validation and afterwards."""
    refine_iters: int = field(default=1, metadata={"least": 0})
    """Further passes with the whole previous reading as context, in validation and afterwards."""
    cross_context: Literal["labels", "visual"] = "labels"
    """Text that the cross branch sees in training: the labels, or what the visual branch read."""
    cross_mask: Literal["order", "cloze"] = "order"
    """Masks of the cross branch in training: those of each order, or every position sees all others."""
    cross_weight: float = field(default=1.0, metadata={"least": 0})
    """Weight of the cross branch's loss."""
    text_freeze: int = 6
    """Frozen blocks of the text tower; 0 freezes its embeddings only, -1 nothing, 12 or more everything."""
    image_freeze: int = -1
    """Frozen blocks of the image tower; -1 freezes nothing, 12 or more everything."""
    decoder_lr: float = field(default=19.0, metadata={"least": 0})
    """Learning rate of the decoders, as a multiple of the CLIP's."""
    decoder_decay: float = field(default=1.0, metadata={"least": 0})
    """Weight decay of the decoders, as a multiple of the CLIP's."""


@dataclass
class ParseqSection:
    """A PARSeq (docs/method.md, 3); sizes that are null are those of `size`."""

    size: Literal["base", "tiny"] = "base"
    """Published size of a new reader."""
    charset: str = "94"
    """Alphabet: 36, 62, 94, 95 (94 and the space), or a text file that holds its characters."""
    max_length: int = field(default=25, metadata={"least": 1})
    """Longest word, in characters."""
    image_size: list[int] | None = None
    """Height and width to read at, multiples of the patches."""
    patch: list[int] | None = None
    """Height and width of a patch in pixels."""
    width: int | None = None
    """Channels of encoder and decoder, a multiple of 64: heads keep their 64 and 32 channels."""
    depth: int | None = field(default=None, metadata={"least": 1})
    """Encoder blocks."""
    decoder_depth: int | None = field(default=None, metadata={"least": 1})
    """Decoder layers."""
    dropout: float | None = None
    """Dropout in the decoder."""
    decoding: Literal["ar", "nar"] = "ar"
    """Autoregressive or all characters at once, in validation and afterwards."""
    refine_iters: int = field(default=1, metadata={"least": 0})
    """Further passes with the whole previous reading as context, in validation and afterwards."""
    spare_embeddings: bool = False
    """Exempt positions and embeddings from weight decay; the reference implementation doesn't."""
