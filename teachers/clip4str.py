"""CLIP4STR: a whole CLIP that reads, with a visual and a cross-modal branch (arXiv 2305.14014).

The visual branch decodes characters from the image tower's tokens. Its reading becomes a caption, which goes through
the text tower; the cross branch decodes from image and text tokens together, and gives the final reading
(docs/method.md, section 2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from open_clip import CLIP
from torch import Tensor

from students.charset import CHARSETS, Charset
from students.decoder import KeysValues, cloze_mask
from students.encoders import check_heads
from students.errors import UserError
from students.permuted import Order
from students.pretrained import config_from
from students.reading import Decoding, Reader
from students.two_stream import CharacterDecoder
from teachers.backbones import (
    Backbone,
    ClipSizes,
    backbone_from_dict,
    backbone_to_dict,
    build_backbone,
)
from teachers.captions import Captioner, caption_tokens
from teachers.towers import image_stages, run_text, text_tokens

PUBLISHED_CLIP = ClipSizes.of_zoo("ViT-B-16")
"""The CLIP of the base size."""
TextFeatures = Literal["tower", "embedding"]


@dataclass(frozen=True)
class Clip4StrConfig:
    """The configuration of a CLIP4STR; the defaults are those of the reference implementation for ViT-B/16."""

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
    """The visual decoder attends to image tokens in the joint space; off: at the image tower's own width."""
    text_features: TextFeatures = "tower"
    """Text tokens behind the whole tower, or only their embeddings."""
    pooled: bool = False
    """The decoders attend to the class token and the end-of-text token only, instead of all."""
    image_detach: bool = True
    """The cross branch sends no gradient into the image tower."""
    language: bool = True
    """There is a cross branch; off leaves the visual branch alone (not in the reference implementation)."""
    decoding: Decoding = "ar"
    """Characters one by one, or all at once (`nar`, not in the reference implementation)."""
    refine_iters: int = 1
    """Further passes, each with the whole earlier reading as context."""

    def __post_init__(self) -> None:
        """Refuse sizes that no reader can have; raises `UserError`."""
        if self.max_length < 1 or self.decoder_depth < 1 or self.refine_iters < 0:
            raise UserError("give a longest word and a decoder depth of 1 or more, and 0 or more refine_iters")
        if not 0 <= self.dropout < 1:
            raise UserError(f"a dropout of {self.dropout}; give 0 to below 1, such as 0.1")
        if self.text_features not in get_args(TextFeatures) or self.decoding not in get_args(Decoding):
            choices = ", ".join((*get_args(TextFeatures), *get_args(Decoding)))
            raise UserError(f"{self.text_features!r} or {self.decoding!r} is unknown; there are {choices}")
        if self.context > self.clip.longest_context:
            raise UserError(
                f"captions of {self.context} tokens don't fit the text tower's {self.clip.longest_context} positions"
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


@dataclass(frozen=True)
class BranchLogits:
    """Logits of both branches over N pictures: of one pass of reading, or of one permuted order of a known word."""

    visual: Tensor
    """(N, S, C + 1) of the visual branch."""
    cross: Tensor | None
    """(N, S, C + 1) of the cross branch; None without one."""
    captions: list[str]
    """The texts of the text tower; empty without a cross branch."""

    @property
    def logits(self) -> Tensor:
        """Those that are read: the cross branch's, where there is one."""
        return self.visual if self.cross is None else self.cross


@dataclass(frozen=True)
class CrossTraining:
    """How the cross branch is trained; the defaults are those of the reference implementation."""

    context: Literal["labels", "visual"] = "labels"
    """Its content: the true characters, or the reading of the visual branch."""
    mask: Literal["order", "cloze"] = "order"
    """Its masks: those of each order, or the one of refine_iters, in which a position sees all others."""


class Clip4Str(Reader):
    """A CLIP with two character decoders.

    Pictures come normalised as for every reader, with mean 0.5 and std 0.5, and are put into CLIP's own normalisation
    here.

    Args:
        config: sizes and switches.
        clip: the CLIP of `config.clip`, with its weights; None builds one with fresh weights.

    Raises:
        UserError: for a CLIP that can't be built, or sizes that heads don't divide.
    """

    FORMAT = "symdistill-clip4str"
    CONFIG = Clip4StrConfig
    config: Clip4StrConfig
    mean: Tensor
    std: Tensor

    def __init__(self, config: Clip4StrConfig, clip: CLIP | None = None) -> None:
        super().__init__()
        self.config = config
        self.charset, self.max_length = Charset(config.charset), config.max_length
        self.clip_model = build_backbone(config.clip) if clip is None else clip
        self.visual_decoder = self._decoder(config.visual_width)
        self.cross_decoder = self._decoder(config.clip.joint_width) if config.language else None
        self.captioner = Captioner(self.charset, Charset(config.caption_charset))
        self.tokens = caption_tokens(config.clip, config.context)
        mean, std = config.clip.mean, config.clip.std
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def _decoder(self, width: int) -> CharacterDecoder:
        config = self.config
        return CharacterDecoder(
            self.charset, config.max_length, width, config.decoder_depth, config.decoder_heads,
            config.decoder_mlp_ratio, config.dropout, updates_content=True,
        )  # fmt: skip

    def visual_branch(self) -> Clip4Str:
        """Return a reader of the visual branch alone, which shares this one's weights."""
        reader = Clip4Str(dataclasses.replace(self.config, language=False), self.clip_model)
        reader.visual_decoder, reader.source = self.visual_decoder, self.source
        return reader.train(self.training)

    def normalize(self, images: Tensor) -> Tensor:
        """Turn a reader's input into the image tower's: `(x * 0.5 + 0.5 - mean) / std`."""
        return (images * 0.5 + 0.5 - self.mean) / self.std

    def encode(self, images: Tensor) -> Tensor:
        """Encode (N, 3, H, W) pictures to the visual decoder's memory (N, S, D), class token first."""
        return self.project(image_stages(self.clip_model.visual, self.normalize(images))[1])

    def project(self, tokens: Tensor) -> Tensor:
        """Turn the image tower's tokens (N, S, width), behind its final norm, into that memory."""
        if self.config.pooled:
            tokens = tokens[:, :1]
        return tokens @ self.clip_model.visual.proj if self.config.share_dim else tokens

    def encode_captions(self, ids: Tensor) -> Tensor:
        """Encode (M, context) token ids to text tokens (M, context, joint width), or one a caption when pooled."""
        if self.config.text_features == "embedding":
            return self.clip_model.token_embedding(ids)
        if self.config.pooled:
            return run_text(self.clip_model, ids)[1][:, None]
        return text_tokens(self.clip_model, ids)

    def forward(self, images: Tensor, max_length: int | None = None, refine_iters: int | None = None) -> Tensor:
        """Read (N, 3, H, W) pictures: logits (N, steps, C + 1) of the last pass.

        Greedy decoding stops when every word has its end token; refine_iters then answer for all positions. With
        `max_length` given it takes exactly min(max_length, config.max_length) + 1 steps.
        """
        return list(self.passes(images, max_length, refine_iters))[-1].logits

    def passes(
        self, images: Tensor, max_length: int | None = None, refine_iters: int | None = None
    ) -> Iterator[BranchLogits]:
        """Read pictures and yield every pass: the first reading, then `refine_iters` (None: as configured)."""
        features = self.encode(images)
        memory, cross = self.visual_decoder.memory_keys(features), self._cross(features)
        steps, nar = self.visual_decoder.steps(max_length), self.config.decoding == "nar"
        visual = self.visual_decoder.first_pass(memory, nar, steps, stop=max_length is None)
        captions, read = [], None
        if cross is not None:
            captions = self.captioner(visual.argmax(dim=-1))
            # As many steps as the visual branch took, without a stop of its own, as in the reference implementation.
            read = cross.decoder.first_pass(cross.memory(captions), nar, visual.shape[1], stop=False)
        yield BranchLogits(visual, read, captions)
        for _ in range(self.config.refine_iters if refine_iters is None else refine_iters):
            visual = self.visual_decoder.refine(memory, visual, steps)
            if cross is not None and read is not None:
                captions = self.captioner(visual.argmax(dim=-1))
                read = cross.decoder.refine(cross.memory(captions), read, steps)
            yield BranchLogits(visual, read, captions)

    def permuted(
        self, features: Tensor, target_ids: Tensor, orders: Sequence[Order], training: CrossTraining = CrossTraining()
    ) -> list[BranchLogits]:
        """Predict known words in several orders; each different caption of the batch is encoded once.

        Args:
            features: (N, S, D) the output of `encode`.
            target_ids: (N, L + 2) start, characters, end, padding.
            orders: see `students.permuted`.
            training: content and masks of the cross branch.
        """
        memory, cross = self.visual_decoder.memory_keys(features), self._cross(features)
        visual = [
            self.visual_decoder.teacher_forced(memory, target_ids, order.query_mask, order.content_mask)
            for order in orders
        ]
        if cross is None:
            return [BranchLogits(logits, None, []) for logits in visual]
        captions = self.captioner(torch.cat(visual).argmax(dim=-1))
        outputs = []
        for number, joined in enumerate(cross.memories(captions, len(features))):
            own = captions[number * len(features) : (number + 1) * len(features)]
            read = self._cross_order(cross.decoder, joined, target_ids, orders[number], visual[number], training)
            outputs.append(BranchLogits(visual[number], read, own))
        return outputs

    def _cross_order(
        self, decoder: CharacterDecoder, memory: Sequence[KeysValues], target_ids: Tensor, order: Order,
        visual: Tensor, training: CrossTraining,
    ) -> Tensor:  # fmt: skip
        """Predict with the cross branch in one order: (N, T, C + 1) logits."""
        known = target_ids[:, :-1]
        ids, masks = known, (order.query_mask, order.content_mask)
        if training.context == "visual":
            ids = torch.cat([known[:, :1], visual[:, :-1].argmax(dim=-1)], dim=1)
        if training.mask == "cloze":
            masks = (cloze_mask(known.shape[1], known.device),) * 2
        # The end and padding of the true word are masked, whatever the context, as in the reference implementation.
        return decoder.logits(decoder.streams(memory, ids, *masks, decoder.key_padding_mask(known)))

    def _cross(self, features: Tensor) -> CrossMemory | None:
        return None if self.cross_decoder is None else CrossMemory(self, self.cross_decoder, features)

    def config_to_dict(self) -> dict[str, Any]:
        """Convert the configuration to what JSON can hold, the kind of CLIP included."""
        return {**super().config_to_dict(), "clip": backbone_to_dict(self.config.clip)}

    @classmethod
    def config_from_dict(cls, stored: Mapping[str, Any], path: Path) -> Clip4StrConfig:
        """Read the configuration back from JSON; raises `UserError` when it is no CLIP4STR's."""
        clip = backbone_from_dict(stored.get("clip"), path)
        return config_from(Clip4StrConfig, {**stored, "clip": clip}, path)


class CrossMemory:
    """Memory of the cross branch for one batch: image tokens, and the text tokens of captions.

    Args:
        reader: encodes captions.
        decoder: the cross branch.
        features: (N, S, D) the memory of the visual branch.
    """

    def __init__(self, reader: Clip4Str, decoder: CharacterDecoder, features: Tensor) -> None:
        config = reader.config
        self.reader, self.decoder = reader, decoder
        features = features.detach() if config.image_detach else features
        joint = features if config.share_dim else features @ reader.clip_model.visual.proj
        self.image_keys = decoder.memory_keys(joint)

    def memory(self, captions: Sequence[str]) -> list[KeysValues]:
        """Join the N pictures with their captions: keys and values of (N, S + context) tokens, one pair a layer."""
        return next(self.memories(captions, len(captions)))

    def memories(self, captions: Sequence[str], rows: int) -> Iterator[list[KeysValues]]:
        """Join the N pictures with each `rows` = N of the captions in turn; equal captions are encoded once."""
        numbers = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
        device = self.image_keys[0][0].device
        texts = self.decoder.memory_keys(self.reader.encode_captions(self.reader.tokens([*numbers]).to(device)))
        for own in torch.tensor([numbers[caption] for caption in captions], device=device).split(rows):
            pairs = zip(self.image_keys, texts, strict=True)
            yield [
                (torch.cat([image[0], text[0][own]], dim=2), torch.cat([image[1], text[1][own]], dim=2))
                for image, text in pairs
            ]
