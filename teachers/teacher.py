"""Teacher: the interface of every frozen model that guides a student."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import Self

from students.errors import UserError
from teachers.feature_cache import FeatureCache
from teachers.guidance import FeatureRequest, Guidance, TeacherShape


class Teacher(nn.Module, ABC):
    """A frozen model: pictures and labels in, `Guidance` out.

    It stays in eval mode whatever `train` is called with, and has no trainable parameters once `freeze` was called. A
    teacher that embeds pictures and words in one space has `embed_images` and `embed_words` besides, to be scored by
    closed lexicon; one that reads is a `teachers.reading.ReadingTeacher`.

    Args:
        name: used in messages, names of terms, and tables.
        description: one line on where it comes from.
    """

    shape: TeacherShape
    """The sizes of its guidance; set by the subclass."""
    longest_label: int | None = None
    """Characters of the longest label that it takes; None for no limit."""
    keep_aspect: bool = False
    """Whether it takes pictures of any width, padded on the right, as a student that keeps the aspect does."""
    text_stages: tuple[str, str, str] = ("text tap 3", "text tap 2", "text tap 1")
    """Names of the three entries of `Guidance.text` in the layer map."""
    word_stage: str = "text embedding"
    """Name of `Guidance.word` in the layer map."""

    def __init__(self, name: str, description: str = "") -> None:
        super().__init__()
        self.name, self.description = name, description

    @property
    def parameters_count(self) -> int:
        """Number of its weights."""
        return sum(weight.numel() for weight in self.parameters())

    def freeze(self) -> Self:
        """Take all parameters out of training and go into eval mode, and return the teacher: everything is built."""
        return self.requires_grad_(False).train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: a teacher has nothing to learn."""
        return super().train(False)

    @abstractmethod
    def forward(self, images: Tensor, labels: Sequence[str]) -> Guidance:
        """Compute the guidance for pictures and their labels, without building a graph.

        Args:
            images: (N, 3, H, W), normalised as for the student (mean 0.5, std 0.5).
            labels: N words, clean for the student's alphabet.

        Raises:
            UserError: a label that the teacher can't line up with a picture's positions.
        """

    def accepts(self, label: str) -> bool:
        """Tell whether `forward` takes a label; words with others are not guided."""
        return True

    def lacking(self, characters: str) -> str:
        """Return those of `characters` that no label may have."""
        return "".join(char for char in characters if not self.accepts(char))

    def extract(self, images: Tensor, labels: Sequence[str], request: FeatureRequest) -> Guidance:
        """Compute only the requested parts: by `forward`, for a teacher that can't spare itself the rest."""
        guidance = self(images, labels)
        left_out: dict[str, None] = {name: None for name in ("image", "text", "word") if name not in request.parts}
        return dataclasses.replace(guidance, **left_out)

    def cache_features(self, text_bytes: int, image_bytes: int, half: bool = False) -> None:
        """Cache features of labels and of pictures that come back, each within so many bytes; 0 for no cache.

        Args:
            text_bytes: for labels; a teacher whose text side depends on more than the label caches none.
            image_bytes: for pictures.
            half: hold pictures in half precision, no longer exact.

        Raises:
            UserError: for pictures of a teacher whose image side can't be had without their labels.
        """
        if image_bytes > 0:
            raise UserError(
                f"{self.name} runs a picture together with its label, so its features can't be cached; set "
                "teacher.image_cache_mb=0"
            )

    @property
    def caches(self) -> Mapping[str, FeatureCache]:
        """The caches in use, by what they are of: `text`, `image`."""
        return {}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Drop what was computed on another device or in another type."""
        for cache in self.caches.values():
            cache.clear()
        return super()._apply(fn, recurse)


@torch.no_grad()
def untrain(teacher: Teacher, seed: int) -> None:
    """Draw fresh weights for a teacher, in place: a control for experiments, of the same build but without knowledge.

    Layers start as torch starts them; weights that stand outside of torch's layers (positions, projections) are drawn
    from a normal distribution as wide as the trained ones.

    Raises:
        UserError: for a teacher whose weights aren't torch's.
    """
    if next(teacher.parameters(), None) is None:
        raise UserError(f"{teacher.name} has no weights to draw anew; set teacher.control=shuffled, or leave it out")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in teacher.modules():
            restart = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if restart is not None:
                restart()
                continue
            for weight in module.parameters(recurse=False):
                if weight.dim() > 0:
                    nn.init.normal_(weight, std=float(weight.std()))
