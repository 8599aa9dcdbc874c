"""A CLIP4STR as a teacher: the towers of its CLIP, and its distributions (docs/method.md, section 4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from students.permuted import permuted_orders
from teachers.backbones import spelling
from teachers.clip4str import Clip4Str
from teachers.feature_cache import FeatureCache
from teachers.guidance import FeatureRequest, Guidance, TeacherShape
from teachers.reading import ReaderFeatures, ReadingTeacher
from teachers.teacher import Teacher
from teachers.towers import image_stages, label_features, tap_blocks


class Clip4StrTeacher(ReadingTeacher):
    """A CLIP4STR that guides another reader.

    Its image taps come from the reader's own pass over the picture, at the size that it reads; its text taps and the
    bridge from the label tokenised character by character, as those of any CLIP. Its characters are those of the
    branch that answers, read from left to right, each after the true ones; as in training the caption of the cross
    branch is the reading of the visual branch.

    Args:
        name: used in messages, names of terms, and tables.
        reader: frozen here, in place.

    Raises:
        UserError: a tower is too shallow for three taps.
    """

    text_stages = Teacher.text_stages
    word_stage = Teacher.word_stage
    reader: Clip4Str

    def __init__(self, name: str, reader: Clip4Str) -> None:
        clip, sizes = reader.clip_model, reader.config.clip
        self._image_taps = tap_blocks(len(clip.visual.transformer.resblocks), "image")
        self._text_taps = tap_blocks(len(clip.transformer.resblocks), "text")
        self.tokens = spelling(sizes)
        self.longest_label = self.tokens.max_length
        self._text_cache: FeatureCache | None = None
        image_tokens = clip.visual.positional_embedding.shape[0]
        shape = TeacherShape(image_tokens, sizes.image_width, sizes.text_width, sizes.joint_width)
        super().__init__(name, reader, shape, "a CLIP4STR")

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Sequence[str]) -> Guidance:
        """See `Teacher`.

        Raises:
            UserError: a label that can't be split into one token per character.
        """
        return self.extract(images, labels, FeatureRequest())

    @torch.no_grad()
    def extract(self, images: Tensor, labels: Sequence[str], request: FeatureRequest) -> Guidance:
        """See `Teacher.extract`; the picture is read in any case."""
        clip = self.reader.clip_model
        text, word, _ = label_features(clip, self.tokens, self._text_taps, labels, request.parts, self._text_cache)
        guidance = super().forward(images, labels)
        image = guidance.image if "image" in request.parts else None
        return dataclasses.replace(guidance, text=text, word=word, image=image)

    def accepts(self, label: str) -> bool:
        """See `Teacher.accepts`."""
        return self.tokens.accepts(label)

    def cache_features(self, text_bytes: int, image_bytes: int, half: bool = False) -> None:
        """See `Teacher.cache_features`."""
        super().cache_features(text_bytes, image_bytes, half)
        self._text_cache = FeatureCache(text_bytes) if text_bytes > 0 else None

    @property
    def caches(self) -> Mapping[str, FeatureCache]:
        """See `Teacher.caches`."""
        return {} if self._text_cache is None else {"text": self._text_cache}

    def features(self, images: Tensor, target_ids: Tensor) -> ReaderFeatures:
        """Run for image taps and logits."""
        reader = self.reader
        (first, second, third), tokens = image_stages(
            reader.clip_model.visual, reader.normalize(images), self._image_taps
        )
        left_to_right = torch.arange(target_ids.shape[1], device=images.device)[None]
        orders = list(permuted_orders(target_ids, left_to_right, reader.charset))
        logits = reader.permuted(reader.project(tokens), target_ids, orders)[0]
        return ReaderFeatures(logits.visual if logits.cross is None else logits.cross, (first, second, third))
