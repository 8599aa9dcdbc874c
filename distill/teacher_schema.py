"""What can be configured of a teacher's training; words, optimizer and loop are those of `distill.schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from distill.data.sections import DataSection
from distill.schema import OptimSection, TrainSection


@dataclass
class ContrastiveSection:
    """The contrastive objective of a small teacher."""

    hard_negatives: int = 3
    """Near-miss words a picture as further negatives."""
    max_edits: int = 2
    """Most edits between a word and its hard negative."""
    ctc: float = 0.5
    """Weight of CTC on the picture's columns, in training only; it rises as the column term falls."""
    columns: float = 1.0
    """Weight of the column term at the start, in training only."""
    columns_until: float = 0.4
    """Share of the run after which the column term has fallen to 0, linearly."""
    spelling: float = 0.5
    """Weight of spelling words from embeddings, in training only."""
    text_queue: int = 0
    """Texts of earlier steps that pictures are told apart from as well; thousands cost little."""
    train_text: bool = True
    """Train the text tower too; false only brings pictures nearer to the words of `init`, at two thirds of the time."""


@dataclass
class PermutationsSection:
    """Permuted orders, in which a reader learns to predict characters (METHOD 2, 3)."""

    count: int = 6
    """Orders a batch; short words have fewer."""
    forward: bool = True
    """Left-to-right is always one of them."""
    mirrored: bool = True
    """Each order comes with its mirror image."""


@dataclass
class Clip4StrSection:
    """A CLIP that becomes a reader (METHOD 2); the defaults are the published base size."""

    clip: str = "ViT-B-16-quickgelu/openai"
    """The CLIP to start from: NAME/TAG of open_clip's zoo, a weights file, `words-small`, or such a folder."""
    weights: str | None = None
    """A local weights file for a NAME or NAME/TAG that says what the file leaves open."""
    image_size: list[int] | None = None
    """Height and width to read at, multiples of its patches; null keeps the CLIP's own, or that of `init`."""
    charset: str = "94"
    """Alphabet: 36, 62, 94, or a text file that holds its characters."""
    caption_charset: str = "36"
    """Alphabet that captions for the text tower are adapted to: the one of the evaluation."""
    max_length: int = 25
    """Longest word in characters."""
    decoder_depth: int = 1
    """Layers of each decoder."""
    decoder_heads: int = 8
    """Heads of each decoder."""
    dropout: float = 0.1
    """Dropout in the decoders."""
    context: int = 16
    """Tokens of a caption, start, end and padding included; longer ones are cut."""
    share_dim: bool = True
    """The visual decoder looks at image tokens in the joint space; off: at the image tower's own width."""
    text_features: Literal["tower", "embedding"] = "tower"
    """Text tokens behind the whole text tower, or only their embeddings."""
    pooled: bool = False
    """Look at the class token and the end-of-text token only, instead of all tokens."""
    image_detach: bool = True
    """The cross branch sends no gradient into the image tower."""
    language: bool = True
    """Have a cross branch; off trains the visual branch alone (not in the published program)."""
    decoding: Literal["ar", "nar"] = "ar"
    """How it reads, in validation and afterwards: characters one by one, or all at once."""
    refine_iters: int = 1
    """Readings again with the whole earlier reading as context, in validation and afterwards."""
    cross_context: Literal["labels", "visual"] = "labels"
    """What the cross branch sees of a word in training: the true characters, or what the visual branch read."""
    cross_mask: Literal["order", "cloze"] = "order"
    """Masks of the cross branch in training: those of each order, or each position sees all others."""
    cross_weight: float = 1.0
    """Weight of the cross branch's loss."""
    text_freeze: int = 6
    """Frozen blocks of the text tower; 0 freezes its embeddings only, -1 nothing, 12 or more everything."""
    image_freeze: int = -1
    """Frozen blocks of the image tower; -1 freezes nothing, 12 or more everything."""
    decoder_lr: float = 19.0
    """Learning rate of the decoders over that of the CLIP."""
    decoder_decay: float = 1.0
    """Weight decay of the decoders over that of the CLIP."""


@dataclass
class ParseqSection:
    """A PARSeq (METHOD 3); sizes that are null are the published ones."""

    size: Literal["base", "tiny"] = "base"
    """Published size to start from nothing with."""
    charset: str = "94"
    """Alphabet: 36, 62, 94, or a text file that holds its characters."""
    max_length: int = 25
    """Longest word in characters."""
    image_size: list[int] | None = None
    """Height and width to read at, multiples of the patches."""
    patch: list[int] | None = None
    """Height and width of a patch in pixels."""
    width: int | None = None
    """Channels of encoder and decoder, a multiple of 64: heads keep their 64 and 32 channels."""
    depth: int | None = None
    """Encoder blocks."""
    decoder_depth: int | None = None
    """Decoder layers."""
    dropout: float | None = None
    """Dropout in the decoder."""
    decoding: Literal["ar", "nar"] = "ar"
    """How it reads, in validation and afterwards: characters one by one, or all at once."""
    refine_iters: int = 1
    """Readings again with the whole earlier reading as context, in validation and afterwards."""
    spare_embeddings: bool = False
    """Weight decay leaves positions and embeddings out; in the published program it doesn't."""


@dataclass
class TeacherConfig:
    """A run of `tools/train_teacher.py`."""

    kind: Literal["clip", "clip4str", "parseq"] = "clip"
    """What is trained: a small CLIP of words (contrastively), a CLIP that reads, or a PARSeq."""

    name: str = "words-small"
    """Name of the teacher, on its card."""
    out: str = "runs/teacher"
    """The run's folder."""
    init: str | None = None
    """Folder of a teacher of this kind to start from, its own sizes kept; null starts from nothing, or from a CLIP."""
    remap: bool = False
    """Give a reader to start from `charset` and `max_length` of its section, row by row."""
    seed: int = 0
    """One seed, from which every stream of random numbers is derived."""
    contrastive: ContrastiveSection = field(default_factory=ContrastiveSection)
    """The objective of kind clip."""
    clip4str: Clip4StrSection = field(default_factory=Clip4StrSection)
    """The reader of kind clip4str."""
    parseq: ParseqSection = field(default_factory=ParseqSection)
    """The reader of kind parseq."""
    permutations: PermutationsSection = field(default_factory=PermutationsSection)
    """Permuted orders of kinds that read."""
    data: DataSection = field(default_factory=DataSection)
    """Words."""
    optim: OptimSection = field(default_factory=OptimSection)
    """Optimizer and schedule."""
    train: TrainSection = field(default_factory=TrainSection)
    """The loop."""
