"""Convert CLIP4STR's training checkpoints: the CLIP that reads, with the switches that change what it reads.

All sizes come from the weights; what weights can't tell comes from the settings beside them. The reference
implementation computes quick-GELU and takes width // 64 attention heads whatever CLIP it started from, OpenCLIP's too,
and so must whoever reads with its weights.
"""

from __future__ import annotations

import math
import re

from distill.conversion import UNKNOWN
from distill.conversion.checkpoints import Checkpoint
from distill.conversion.layout import ConversionOptions, Converted, Sizes, fill, need
from students.charset import CHARSETS
from students.errors import UserError
from teachers.backbones import ClipSizes
from teachers.clip4str import Clip4Str, Clip4StrConfig
from teachers.weights import count_blocks
from teachers.zoo import CLIP_VOCABULARY, config_from_shapes

CLIP, VISUAL, CROSS = "clip_model.", "visual_decoder.", "cross_decoder."
"""How the names of its three parts begin."""
HEAD_WIDTH = 64
"""Channels of one attention head of its CLIP, whatever CLIP it was."""
CLIP_NEEDS = (
    "visual.conv1.weight", "visual.positional_embedding", "visual.proj", "positional_embedding",
    "token_embedding.weight", "text_projection",
)  # fmt: skip
"""Weights of the CLIP that sizes are read from."""


def convert(checkpoint: Checkpoint, options: ConversionOptions) -> Converted:
    """Convert a checkpoint of CLIP4STR.

    Raises:
        UserError: when the checkpoint is no CLIP4STR, or doesn't tell a size.
    """
    sizes = Sizes(checkpoint, options)
    reader = Clip4Str(reader_config(checkpoint, sizes))
    used = fill(reader, checkpoint, stored_name)
    unused = [name for name in checkpoint.tensors if name not in used]
    missing = [] if reader.config.language else [f"{CROSS}*"]
    return Converted(reader.eval(), {UNKNOWN: unused}, missing, sizes.assumed)


def stored_name(name: str) -> str:
    """Map one of our weights' names to the checkpoint's: our decoders hold layers and final norm in a module."""
    return re.sub(rf"^({VISUAL}|{CROSS})decoder\.", r"\1", name)


def reader_config(checkpoint: Checkpoint, sizes: Sizes) -> Clip4StrConfig:
    """Read the configuration of the reader from weights and settings.

    Raises:
        UserError: see `convert`.
    """
    head, queries, hidden = need(
        checkpoint, f"{VISUAL}head.weight", f"{VISUAL}pos_queries", f"{VISUAL}layers.0.linear1.weight"
    )
    width, clip = queries.shape[2], clip_sizes(checkpoint, sizes)
    encoder_heads, decoder_heads = sizes.options.heads or (None, None)
    sizes.refuse_contradiction("--heads", "encoder heads", encoder_heads, clip.image_width // HEAD_WIDTH)
    return Clip4StrConfig(
        charset=sizes.charset(head.shape[0]),
        caption_charset=caption_charset(checkpoint, sizes),
        max_length=queries.shape[1] - 1,
        clip=clip,
        decoder_depth=count_blocks(checkpoint.tensors, f"{VISUAL}layers."),
        decoder_heads=sizes.integer("dec_num_heads", 8, "decoder heads", decoder_heads, "--heads"),
        decoder_mlp_ratio=hidden.shape[0] / width,
        dropout=sizes.dropout(),
        context=sizes.integer("context_length", 16, "tokens of a caption"),
        share_dim=shares_dim(checkpoint, clip, width, sizes),
        text_features="embedding" if sizes.switch("cross_token_embeding", False) else "tower",
        pooled=sizes.switch("clip_cls_eot_feature", False),
        image_detach=sizes.switch("image_detach", True),
        language=any(name.startswith(CROSS) for name in checkpoint.tensors),
        decoding="ar" if sizes.switch("decode_ar", True) else "nar",
        refine_iters=sizes.integer("refine_iters", 1, "refine_iters"),
    )


def clip_sizes(checkpoint: Checkpoint, sizes: Sizes) -> ClipSizes:
    """Read the CLIP's sizes from its weights.

    Raises:
        UserError: when there is no CLIP with a ViT and CLIP's vocabulary.
    """
    if not checkpoint.with_prefix(CLIP):
        raise UserError(
            f"{checkpoint.path}: its CLIP, which was trained with the decoders, isn't in it; give the whole checkpoint"
        )
    convolution, positions, *_ = need(checkpoint, *(CLIP + name for name in CLIP_NEEDS))
    patches = len(positions) - 1
    stated = sizes.options.image is not None or "img_size" in checkpoint.settings
    height = width = 0  # square, as every CLIP is, unless stated or impossible
    if stated or math.isqrt(patches) ** 2 != patches:
        height, width = sizes.image((convolution.shape[2], convolution.shape[3]), patches)
    config = config_from_shapes(checkpoint.with_prefix(CLIP), None if height == width else (height, width))
    entries = config["text_cfg"]["vocab_size"]
    if entries != CLIP_VOCABULARY:
        raise UserError(
            f"{checkpoint.path}: its vocabulary has {entries} entries, CLIP's tokenizer {CLIP_VOCABULARY}; give a "
            "checkpoint with CLIP's own"
        )
    return ClipSizes(config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu=True)


def shares_dim(checkpoint: Checkpoint, clip: ClipSizes, width: int, sizes: Sizes) -> bool:
    """Tell whether the visual decoder reads tokens of the joint space, by its width, or by a switch when both agree.

    Raises:
        UserError: for a decoder of neither width.
    """
    if width not in (clip.joint_width, clip.image_width):
        raise UserError(
            f"{checkpoint.path}: its visual decoder is {width} wide, its CLIP {clip.image_width} or "
            f"{clip.joint_width}; they don't belong together"
        )
    if clip.joint_width == clip.image_width:
        return sizes.switch("use_share_dim", True)
    return width == clip.joint_width


def caption_charset(checkpoint: Checkpoint, sizes: Sizes) -> str:
    """Return the alphabet of captions: the one that the reference implementation was evaluated with."""
    stored = checkpoint.settings.get("charset_test")
    if isinstance(stored, str) and stored:
        return stored
    sizes.assumed.append("alphabet of captions: the usual 36 characters")
    return CHARSETS["36"]
