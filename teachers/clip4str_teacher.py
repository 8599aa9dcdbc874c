"""A CLIP4STR as a teacher: what a CLIP shows, by its own weights, and its distributions over characters (METHOD 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from students.permuted import permuted_orders
from teachers.backbones import spelling
from teachers.clip4str import Clip4Str
from teachers.guidance import FeatureRequest, Guidance, TeacherShape
from teachers.label_stages import LabelStages
from teachers.reading import ReaderFeatures, ReadingTeacher
from teachers.stage_cache import StageCache
from teachers.stage_store import Store
from teachers.teacher import Teacher
from teachers.towers import image_stages, tap_blocks


class Clip4StrTeacher(ReadingTeacher):
    """A CLIP4STR as the guide of another reader.

    Its image tower's taps come from the reader's own pass over the picture, at the size that it reads; its text
    tower's taps and the bridge from the label spelt character by character, as those of any CLIP (METHOD 1.1). Its
    characters are those of the branch that answers, from left to right, each after the true ones; as in training the
    caption of the cross branch is what the visual branch makes of them.

    Args:
        name: what messages, terms and tables call it.
        reader: frozen here, in place.

    Raises:
        UserError: a tower is too shallow for three taps.
    """

    stores_texts = True
    text_stages = Teacher.text_stages
    word_stage = Teacher.word_stage
    reader: Clip4Str

    def __init__(self, name: str, reader: Clip4Str) -> None:
        clip, sizes = reader.clip_model, reader.config.clip
        self._image_taps = tap_blocks(len(clip.visual.transformer.resblocks), "image")
        self.tokens = spelling(sizes)
        self._labels = LabelStages(clip, self.tokens, tap_blocks(len(clip.transformer.resblocks), "text"))
        tokens = clip.visual.positional_embedding.shape[0]
        shape = TeacherShape(tokens, sizes.image_width, sizes.text_width, sizes.joint_width)
        super().__init__(name, reader, shape, "a CLIP4STR")

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Sequence[str]) -> Guidance:
        """See `Teacher`.

        Raises:
            UserError: a label that can't be split into one token per character.
        """
        return self.guide(images, labels, FeatureRequest())

    @torch.no_grad()
    def guide(self, images: Tensor, labels: Sequence[str], wanted: FeatureRequest) -> Guidance:
        """See `Teacher.guide`; the picture is read in any case."""
        text, word, _ = self._labels.show(labels, images.device, wanted.text, wanted.word)
        shown = super().forward(images, labels)
        return dataclasses.replace(shown, text=text, word=word, image=shown.image if wanted.image else None)

    def keep(self, texts: int, images: int, half: bool = False, store: Store | None = None) -> None:
        """See `Teacher.keep`."""
        super().keep(texts, images, half)
        self._labels.keep(texts, store)

    @property
    def kept(self) -> Mapping[str, StageCache]:
        """See `Teacher.kept`."""
        return {} if self._labels.cache is None else {"text": self._labels.cache}

    def show(self, images: Tensor, target_ids: Tensor) -> ReaderFeatures:
        """Show image taps and logits."""
        reader = self.reader
        (first, second, third), tokens = image_stages(
            reader.clip_model.visual, reader.normalize(images), self._image_taps
        )
        left_to_right = torch.arange(target_ids.shape[1], device=images.device)[None]
        orders = list(permuted_orders(target_ids, left_to_right, reader.charset))
        logits = reader.permuted(reader.project(tokens), target_ids, orders)[0]
        return ReaderFeatures(logits.visual if logits.cross is None else logits.cross, (first, second, third))
