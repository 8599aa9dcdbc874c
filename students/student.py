"""Student: an encoder with taps and a query decoder, from the published size down to the ones made for deployment."""

from __future__ import annotations

from torch import Tensor, nn

from students.charset import Charset
from students.decoder import causal_mask
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
from students.sizes import StudentConfig, check_heads
from students.stages import Stages, StudentShape
from students.two_stream import CharacterDecoder


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


class Student(CharacterDecoder, Reader):
    """A reader of word pictures that can be guided (METHOD 1.4).

    Args:
        config: sizes and alphabet.

    Raises:
        UserError: when encoder or decoder is too shallow for three stages, or its heads don't divide its width.
    """

    FORMAT = "symdistill-student"
    CONFIG = StudentConfig
    config: StudentConfig

    def __init__(self, config: StudentConfig) -> None:
        nn.Module.__init__(self)
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

    def facts(self) -> dict[str, str]:
        """Tell in words what it is made of, for its card."""
        config, shape = self.config, self.shape
        return {
            "encoder": f"{config.encoder}, {shape.width} wide, {config.depth} blocks, {shape.tokens} tokens",
            "decoder": f"{config.decoder_depth} layers, {shape.decoder_width} wide",
        }

    def encode(self, images: Tensor) -> Tensor:
        """Encode (N, 3, H, W) pictures to the decoder's memory (N, S, D), class token first."""
        return self.encoder.stages(images)[0]

    def stages(self, images: Tensor, target_ids: Tensor) -> Stages:
        """Run teacher-forced on (N, 3, H, W) pictures and (N, L + 2) ids (start, characters, end, padding)."""
        memory, encoder_taps = self.encoder.stages(images)
        ids = target_ids[:, :-1]
        mask = causal_mask(ids.shape[1], ids.device)
        outputs = self.streams(self.memory_keys(memory), ids, mask, None, self.closed(ids))
        first, second, third = (self.decoder.norm(outputs[tap - 1]) for tap in self.decoder_taps)
        return Stages(
            logits=self.logits(outputs),
            encoder=encoder_taps,
            decoder=(first, second, third),
            word=memory[:, 0],
            columns=self.column_head(memory[:, 1:]) if self.column_head is not None else None,
        )

    def forward(self, images: Tensor, max_length: int | None = None) -> Tensor:
        """Read (N, 3, H, W) pictures greedily: logits (N, steps, C + 1).

        Stops when every word has its end token, after `config.max_length` + 1 steps at most. With `max_length` given
        it takes exactly min(max_length, config.max_length) + 1 steps.
        """
        return self.decode(self.encode(images), max_length)

    def decode(self, memory: Tensor, max_length: int | None = None) -> Tensor:
        """Decode (N, S, D) memory greedily, one position at a time, keys and values kept: (N, steps, C + 1)."""
        return self.greedy(self.memory_keys(memory), self.steps(max_length), stop=max_length is None)
