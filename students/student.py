"""Student: an encoder with taps and a query decoder, from the published size down to the ones made for deployment.

How a student decodes decides in which contexts it learns. One that reads greedily sees the characters before each, as
published. One that reads in one shot sees none in its first reading, and all others when it refines. Content is never
updated between the layers here, so no position looks at what another one has seen: each can have a context of its own,
and both kinds are learned in one pass, where PARSeq needs a pass an order.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from students.charset import Charset
from students.decoder import blind_mask, causal_mask, cloze_mask
from students.encoders import (
    ConvEncoder,
    Encoder,
    TimmEncoder,
    plain_attention,
    tap_depths,
    timm_model,
    vision_transformer,
)
from students.reading import Reader
from students.sizes import StudentConfig, StudentDecoding, check_decoding, check_heads
from students.stages import Stages, StudentShape
from students.two_stream import CharacterDecoder

BLIND_SHARE = 0.5
"""Share of the positions that learn to read from the picture alone, in students that refine; the others see the rest
of the word."""


def build_encoder(config: StudentConfig) -> Encoder:
    """Build the encoder that `config` names, with its taps."""
    if config.encoder == "conv":
        taps = tap_depths(config.depth, config.taps, "an encoder")
        return ConvEncoder(
            config.image_size, config.stem, config.width, config.depth, config.heads, config.mlp_ratio, taps
        )
    if config.encoder == "vit":
        model: nn.Module = vision_transformer(
            config.image_size, config.patch, config.width, config.depth, config.heads, config.mlp_ratio
        )
    else:
        model = timm_model(config.encoder, config.image_size)
    return TimmEncoder(model, config.image_size, config.taps)


def describe_encoder(config: StudentConfig, encoder: Encoder) -> str:
    """Tell in words what an encoder is made of, for cards."""
    return f"{config.encoder}, {encoder.width} wide, {config.depth} blocks, {encoder.tokens} tokens"


class Student(CharacterDecoder, Reader):
    """A reader of word pictures that can be guided (METHOD 1.4).

    Args:
        config: sizes and alphabet.

    Raises:
        UserError: when encoder or decoder is too shallow for three stages, or its heads don't divide its width.
    """

    FORMAT = "symdistill-student"
    CONFIG = StudentConfig
    DECODINGS: ClassVar[tuple[StudentDecoding, ...]] = ("ar", "nar")
    config: StudentConfig

    def __init__(self, config: StudentConfig) -> None:
        nn.Module.__init__(self)
        check_decoding(config, self.DECODINGS)
        self.config = config
        self.encoder = build_encoder(config)
        width = self.encoder.width
        check_heads(width, config.decoder_heads, "the decoder")
        self.decoder_taps = tap_depths(config.decoder_depth, config.taps, "a decoder")
        self.add_decoder(
            Charset(config.charset), config.max_length, width, config.decoder_depth, config.decoder_heads,
            config.decoder_mlp_ratio, config.dropout, updates_content=False,
        )  # fmt: skip
        self.column_head = nn.Linear(width, len(config.charset) + 1) if config.column_head else None
        self.shape = StudentShape(tokens=self.encoder.tokens, width=width, decoder_width=width)
        self.initialise()
        plain_attention(self)

    def no_weight_decay(self) -> set[str]:
        """Name the weights of two and more dimensions that are never decayed (METHOD 1.4)."""
        ends = ("cls_token", "pos_embed", "pos_queries", "text_embed.embedding.weight")
        return {name for name, _ in self.named_parameters() if name.endswith(ends)}

    def summary(self) -> dict[str, str]:
        """Tell in words what it is made of, for its card."""
        config, shape = self.config, self.shape
        return {
            "encoder": describe_encoder(config, self.encoder),
            "decoder": f"{config.decoder_depth} layers, {shape.decoder_width} wide",
            "decoding": config.decoding + (f", refine_iters: {config.refine_iters}" if config.refine_iters else ""),
        }

    @property
    def chooses_decoding(self) -> bool:
        """Whether it can refine: the number of refine_iters is a choice then."""
        return self.config.refine_iters > 0

    def exported_model(self) -> Reader:
        """Give what is handed out of it when it is trained, on the same weights."""
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Encode (N, 3, H, W) pictures to the decoder's memory (N, S, D), class token first."""
        return self.encoder.stages(images)[0]

    def stages(self, images: Tensor, target_ids: Tensor) -> Stages:
        """Run teacher-forced on (N, 3, H, W) pictures and (N, L + 2) ids (start, characters, end, padding)."""
        memory, encoder_taps = self.encoder.stages(images)
        ids = target_ids[:, :-1]
        outputs = self.streams(self.memory_keys(memory), ids, self.context_mask(ids), None, self.closed(ids))
        first, second, third = (self.decoder.norm(outputs[tap - 1]) for tap in self.decoder_taps)
        return Stages(
            logits=self.logits(outputs),
            encoder=encoder_taps,
            decoder=(first, second, third),
            word=memory[:, 0],
            columns=self.column_head(memory[:, 1:]) if self.column_head is not None else None,
        )

    def context_mask(self, ids: Tensor) -> Tensor:
        """Say which content (N, L) each of T = L positions may not look at when known words are read.

        Returns:
            (T, L), True = may not look. For a student that refines, in training: (N, 1, T, L), drawn for each position
            from torch's generator as dropout is; in eval mode all see the rest of the word, as in the last reading.
        """
        length, device = ids.shape[1], ids.device
        if self.config.decoding != "nar":
            return causal_mask(length, device)
        blind, cloze = blind_mask(length, device), cloze_mask(length, device)
        if self.config.refine_iters == 0:
            return blind
        if not self.training:
            return cloze
        return torch.where(torch.rand(len(ids), 1, length, 1, device=device) < BLIND_SHARE, blind, cloze)

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Read (N, 3, H, W) pictures as configured: logits (N, steps, C + 1) of the last reading, see `decode`."""
        config, memory = self.config, self.memory_keys(self.encode(images))
        return self.decode(memory, config.decoding == "nar", config.refine_iters, max_length)
