"""The section `data` of a configuration: where a run's words come from and how they are prepared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Augmentation = Literal["none", "light", "strong", "photo"]
"""`strong` is RandAugment for text, `photo` another photograph: of original size; `light` works on resized pictures."""
ON_ORIGINALS = ("strong", "photo")
"""Augmentations that need pictures of their original size."""
Style = Literal["sign", "street"]
"""How rendered words look; `street` is nearer to real crops."""


@dataclass
class SourceSection:
    """One place that training words come from."""

    path: str = ""
    """LMDB, tree of LMDBs or image folder; relative paths start at data.root when that is given."""
    ratio: float = field(default=1.0, metadata={"least": 0})
    """Part of each batch, relative to the other sources."""
    words: int = field(default=0, metadata={"least": 0})
    """Learn from this many words only, the same ones in every run with this alphabet; 0 takes all. A smaller number of
    them is a part of a larger one."""
    augmentation: Augmentation = "none"
    """`strong` is RandAugment for text (docs/method.md, section 1.5), `photo` photographs the word again from another
    place in other light, `light` changes colours, sharpness, position."""
    fixed_augmentations: int = field(default=0, metadata={"least": 0})
    """Fixed augmented versions of each picture, one an epoch in turn, so that a teacher's features can be cached; 0
    augments anew each time."""
    cache: Literal["none", "memory"] = "none"
    """`memory` decodes and resizes once into a file beside the words' own and reads from it afterwards."""
    labels: Literal["own", "pseudo", "distributions"] = "own"
    """`pseudo`: a teacher reads the words while training; `distributions`: own, with those that `label` stored."""

    @property
    def labelled(self) -> bool:
        """Whether the words have labels of their own; otherwise a teacher reads them."""
        return self.labels != "pseudo"

    def augmentation_epoch(self, epoch: int) -> int:
        """Return the epoch that a picture is augmented as in: the same again after `fixed_augmentations` epochs."""
        return epoch % self.fixed_augmentations if self.fixed_augmentations else epoch

    def version(self, epoch: int) -> int | None:
        """Return `Sample.version` of a stored picture: which of the pictures that come back; None where none does."""
        if self.augmentation == "none":
            return 0
        return self.augmentation_epoch(epoch) if self.fixed_augmentations else None


@dataclass
class SyntheticSection:
    """Rendered words: how many, how they look, and their part of each batch."""

    words: int = field(default=0, metadata={"least": 0})
    """Training words to render; 0 renders none."""
    live: bool = False
    """Render training words in the loader instead, anew in every epoch of `words`; nothing is stored."""
    test_words: int = field(default=1000, metadata={"least": 0})
    """Words to render for validation; neither they nor their fonts are in training."""
    folder: str = "runs/rendered"
    """Where they are stored: FOLDER/train-N-SEED and FOLDER/test-N-SEED; what is no default joins the name."""
    seed: int = 0
    """Seed of the renderer."""
    difficulty: float = field(default=1.0, metadata={"least": 0, "most": 1})
    """How hard the words are to read, 0 (plain) to 1 (as varied as real crops)."""
    style: Style = "sign"
    """`street` renders words nearer to real crops: colour, depth, perspective, margins, cameras, languages."""
    max_fonts: int = field(default=400, metadata={"least": 1})
    """Fonts to render with at most, chosen by seed; each takes some 60 kB."""
    line_words: list[int] = field(default_factory=lambda: [1, 1])
    """Fewest and most words of a line, up to student.max_length; more than one needs an alphabet with the space."""
    fonts: list[str] = field(default_factory=list)
    """Folders of further fonts."""
    system_fonts: bool = True
    """Use the fonts that the system has, beside those that come with Python packages."""
    languages: list[str] = field(default_factory=list)
    """Languages of the words, as wordfreq calls them (`de`, `ru`); empty: English, or by an alphabet beyond ASCII."""
    codes_from: str | None = None
    """Labelled words, a path as in data.train: with `live`, some of the rendered words are codes of the same shapes as
    their labels, with other letters and digits."""
    codes_ratio: float = field(default=0.5, metadata={"least": 0, "most": 1})
    """Part of the rendered words that are such codes."""
    workers: int = field(default=0, metadata={"least": 0})
    """Rendering processes; 0 takes one a core."""
    ratio: float = field(default=1.0, metadata={"least": 0})
    """Part of each batch, relative to the sources in data.train."""
    augmentation: Augmentation = "none"
    """As for a source in data.train, on top of what rendering varies."""
    fixed_augmentations: int = field(default=0, metadata={"least": 0})
    """As for a source in data.train."""
    cache: Literal["none", "memory"] = "none"
    """As for a source in data.train; not for `live`."""

    @property
    def source(self) -> SourceSection:
        """What rendered words have in common with other sources."""
        return SourceSection(
            ratio=self.ratio, augmentation=self.augmentation, fixed_augmentations=self.fixed_augmentations,
            cache=self.cache,
        )  # fmt: skip


@dataclass
class DataSection:
    """Words to learn from and to validate on."""

    root: str | None = None
    """A folder with train/ and test/ in it (docs/reference/data-layout.md)."""
    train: list[SourceSection] = field(default_factory=list)
    """Sources of training words; rendered ones (`synthetic`) join them."""
    validation: str | None = None
    """LMDB, tree or folder to validate on; null takes the rendered test words."""
    synthetic: SyntheticSection = field(default_factory=SyntheticSection)
    """Rendered words."""
    workers: int = field(default=1, metadata={"least": 0})
    """Loader processes; 0 loads in the training process."""
    max_corrupt: float = field(default=0.01, metadata={"least": 0, "most": 1})
    """Largest part of the records that may be corrupt and skipped; more is an error."""
