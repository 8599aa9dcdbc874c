"""Teachers that read: their taps and their distributions over characters (docs/method.md, section 4).

The teacher is run teacher-forced on the label, spelt in its own alphabet, so that its position i lines up with the
student's. From the first character that it hasn't got, or beyond its longest word, the mask leaves a label out.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from students.decoder import causal_mask
from students.decoding import Reading
from students.encoders import tap_depths
from students.errors import UserError
from students.parseq import Parseq
from students.permuted import permuted_orders
from students.reading import Reader
from students.stages import Taps
from students.student import Student
from teachers.backbones import spelling
from teachers.clip4str import Clip4Str
from teachers.feature_cache import FeatureCache
from teachers.guidance import FeatureRequest, Guidance, TeacherShape
from teachers.teacher import Teacher
from teachers.towers import image_stages, label_features


@dataclass(frozen=True)
class ReaderFeatures:
    """The features of one teacher-forced pass of a reader; None for those that its `TeacherShape` lacks."""

    logits: Tensor
    """(N, T, C_t + 1), the end first."""
    image: Taps | None = None
    """See `Guidance.image`."""
    text: Taps | None = None
    """Decoder taps 1, 2, 3, each (N, T, text_width)."""
    word: Tensor | None = None
    """See `Guidance.word`."""
    mask: Tensor | None = None
    """(N, T) bool, positions that the reader can speak for; None for all that it can spell."""
    columns: Tensor | None = None
    """See `Guidance.columns`."""


class ReadingTeacher(Teacher):
    """A frozen reader that guides another one; subclasses run it in `features`.

    Args:
        name: used in messages, names of terms, and tables.
        reader: the model; frozen here, in place.
        shape: sizes of the features, without the reader's alphabet, which is entered here.
        description: one line on what it is.
    """

    text_stages = ("decoder tap 1", "decoder tap 2", "decoder tap 3")
    word_stage = "summary"
    reader: Reader

    def __init__(self, name: str, reader: Reader, shape: TeacherShape, description: str = "") -> None:
        super().__init__(name, description)
        self.reader, self.keep_aspect = reader, reader.keep_aspect
        self.shape = dataclasses.replace(shape, charset=reader.charset)
        self.freeze()

    @abstractmethod
    def features(self, images: Tensor, target_ids: Tensor) -> ReaderFeatures:
        """Run teacher-forced on pictures of the reader's size and (N, L + 2) ids: start, characters, end, padding."""

    @torch.no_grad()
    def forward(self, images: Tensor, labels: Sequence[str]) -> Guidance:
        """See `Teacher`; positions of a label that the reader can't spell are left out by the mask."""
        positions = max(map(len, labels), default=0) + 1
        spelt = [self.spell(label) for label in labels]
        ids = self.reader.charset.encode(spelt).to(images.device)
        features = self.features(self.fit(images), ids)
        # The end is a true one only where the whole label could be spelt.
        known = [len(own) + (len(own) == len(label)) for own, label in zip(spelt, labels, strict=True)]
        mask = (torch.arange(positions) < torch.tensor(known)[:, None]).to(images.device)
        if features.mask is not None:
            mask &= F.pad(features.mask, (0, positions - features.mask.shape[1]))
        text = None if features.text is None else tuple(pad_positions(tap, positions) for tap in features.text)
        characters = pad_positions(features.logits.float().log_softmax(dim=-1), positions)
        return Guidance(features.image, text, features.word, mask, characters, features.columns)  # type: ignore[arg-type]

    def read_batch(self, images: Tensor) -> list[Reading]:
        """Read a student's pictures (N, 3, H, W) openly: one reading each, in the reader's alphabet."""
        return self.reader.read_batch(self.fit(images))

    def spell(self, label: str) -> str:
        """Write a label in the reader's alphabet, up to the first character it lacks and to its longest word."""
        written = ""
        for char in label[: self.reader.max_length]:
            own = self.reader.charset.counterpart(char)
            if own is None:
                break
            written += own
        return written

    def fit(self, images: Tensor) -> Tensor:
        """Bring pictures to the reader's size, bicubically, when the student's is another.

        A reader that keeps the aspect takes what it is shown, at its height.
        """
        if self.keep_aspect and images.shape[2] == self.reader.image_size[0]:
            return images
        size = self.reader.image_size
        if images.shape[-2:] == size:
            return images
        return F.interpolate(images.float(), size, mode="bicubic", antialias=True, align_corners=False)


def pad_positions(rows: Tensor, positions: int) -> Tensor:
    """Lengthen (N, t, C) to (N, positions, C) with zeros."""
    return F.pad(rows, (0, 0, 0, positions - rows.shape[1]))


class StudentTeacher(ReadingTeacher):
    """A student as the teacher of a smaller one: each of its stages guides the same stage, and its logits teach.

    Nothing is reversed: decoder tap k guides decoder tap k, and the summary token the summary token.

    Args:
        name: used in messages, names of terms, and tables.
        student: frozen here, in place.
    """

    reader: Student

    def __init__(self, name: str, student: Student) -> None:
        own = student.shape
        super().__init__(name, student, TeacherShape(own.tokens, own.width, own.decoder_width, own.width), "a student")

    def features(self, images: Tensor, target_ids: Tensor) -> ReaderFeatures:
        """Run for encoder taps, decoder taps, summary token and logits."""
        stages = self.reader.stages(images, target_ids)
        if stages.logits is None:
            raise RuntimeError("a student with a decoder has logits")
        return ReaderFeatures(stages.logits, stages.encoder, stages.decoder, stages.word)


class ParseqTeacher(ReadingTeacher):
    """A PARSeq as a teacher: encoder taps (patches only, it has no class token) and logits read from left to right.

    Args:
        name: used in messages, names of terms, and tables.
        parseq: frozen here, in place; with an encoder too shallow for three taps it guides by its logits alone.
    """

    reader: Parseq

    def __init__(self, name: str, parseq: Parseq) -> None:
        try:
            self._indices = [tap - 1 for tap in tap_depths(parseq.config.depth, "even", "an encoder")]
            shape = TeacherShape(parseq.encoder.patch_embed.num_patches, parseq.config.width)
        except UserError:
            self._indices, shape = [], TeacherShape()
        super().__init__(name, parseq, shape, "a PARSeq" if self._indices else "a PARSeq, too shallow for image taps")

    def features(self, images: Tensor, target_ids: Tensor) -> ReaderFeatures:
        """Run for encoder taps and logits."""
        encoder: Any = self.reader.encoder
        taps: list[Tensor] = []
        if self._indices:
            memory, taps = encoder.forward_intermediates(images, indices=self._indices, output_fmt="NLC")
        else:
            memory = self.reader.encode(images)
        mask = causal_mask(target_ids.shape[1] - 1, images.device)
        logits = self.reader.teacher_forced(self.reader.memory_keys(memory), target_ids, mask, mask)
        return ReaderFeatures(logits, (taps[0], taps[1], taps[2]) if taps else None)


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
        self._image_taps = tap_depths(len(clip.visual.transformer.resblocks), "published", "an image tower")
        self._text_taps = tap_depths(len(clip.transformer.resblocks), "published", "a text tower")
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
