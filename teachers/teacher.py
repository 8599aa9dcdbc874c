"""Teacher: what every frozen guide has, whatever it is made of."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from typing_extensions import Self

from students.errors import UserError
from teachers.guidance import FeatureRequest, Guidance, TeacherShape
from teachers.stage_cache import StageCache
from teachers.stage_store import Store


class Teacher(nn.Module, ABC):
    """A frozen guide: pictures and labels in, `Guidance` out.

    It stays in eval mode whatever `train` is told and has no trainable parameters once `freeze` was called. A teacher
    that embeds pictures and words in one space has `embed_images` and `embed_words` besides, for its score by closed
    lexicon; one that reads is a `teachers.reading.ReadingTeacher`.

    Args:
        name: what messages, terms and tables call it.
        description: one line on where it comes from.
    """

    shape: TeacherShape
    """The sizes of its guidance; set by the subclass."""
    text_stages: tuple[str, str, str] = ("text tap 3", "text tap 2", "text tap 1")
    """What the layer map calls the three entries of `Guidance.text`."""
    word_stage: str = "text embedding"
    """What it calls `Guidance.word`."""

    stores_texts = False
    """Whether what it shows of a label depends on the label alone, so that it can be shared in a file."""

    def __init__(self, name: str, description: str = "") -> None:
        super().__init__()
        self.name, self.description = name, description

    def freeze(self) -> None:
        """Take all parameters out of training and go into eval mode; call it when everything is built."""
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: a teacher has nothing to learn."""
        return super().train(False)

    @abstractmethod
    def forward(self, images: Tensor, labels: Sequence[str]) -> Guidance:
        """Show the guidance for pictures and their labels, without building a graph.

        Args:
            images: (N, 3, H, W), normalised as for the student (mean 0.5, std 0.5).
            labels: N words, clean for the student's alphabet.

        Raises:
            UserError: a label that the teacher can't line up with a picture's positions.
        """

    def guide(self, images: Tensor, labels: Sequence[str], wanted: FeatureRequest) -> Guidance:
        """Show only what is wanted: as `forward` does, for a teacher that can't spare itself the rest."""
        shown = self(images, labels)
        unwanted: dict[str, None] = {name: None for name in ("image", "text", "word") if not getattr(wanted, name)}
        return dataclasses.replace(shown, **unwanted)

    def keep(self, texts: int, images: int, half: bool = False, store: Store | None = None) -> None:
        """Keep what is shown of labels and of pictures that come back, each within so many bytes; 0 keeps nothing.

        Args:
            texts: bytes for labels; a teacher whose text side depends on more than the label keeps none.
            images: bytes for pictures.
            half: hold pictures in half precision, no longer exact.
            store: file in which processes and runs share what is shown of labels.

        Raises:
            UserError: when pictures are to be kept of a teacher that shows them together with their labels, or labels
                in a file by one whose text side depends on more.
        """
        if store is not None and not self.stores_texts:
            raise UserError(f"{self.name} has no text side of its own to keep in a file; leave teacher.text_store out")
        if images > 0:
            raise UserError(
                f"{self.name} reads, so it shows a picture anew for each label; set teacher.image_cache_mb=0"
            )

    @property
    def kept(self) -> Mapping[str, StageCache]:
        """What is kept, by what it is of: `text`, `image`."""
        return {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Forget what was kept on another device or in another type."""
        for cache in self.kept.values():
            cache.clear()
        return super()._apply(fn, recurse)
