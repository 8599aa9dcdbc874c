"""Convert PARSeq's weights: released files (bare state dicts, torch-hub layout) and Lightning training checkpoints.

Both hold the same names; a Lightning module puts `model.` before each. A bare file says neither its alphabet nor
its attention heads: the released ones have 94 characters and the heads of the two released sizes.
"""

from __future__ import annotations

from typing import Any

from distill.conversion import UNKNOWN
from distill.conversion.checkpoints import Checkpoint
from distill.conversion.layout import ConversionOptions, Converted, Sizes, fill, vit_sizes
from students.errors import UserError
from students.parseq import Parseq, ParseqConfig

CLASS_TOKEN = "encoder.cls_token"
"""A weight of CLIP-OCR's encoder that PARSeq's lacks."""


def convert(checkpoint: Checkpoint, options: ConversionOptions) -> Converted:
    """Convert a checkpoint of PARSeq.

    Raises:
        UserError: when the checkpoint is no PARSeq, or doesn't tell a size.
    """
    sizes = Sizes(checkpoint, options)
    reader = Parseq(parseq_config(checkpoint, sizes))
    used = fill(reader, checkpoint)
    unused = [name for name in checkpoint.tensors if name not in used]
    return Converted(reader.eval(), {UNKNOWN: unused}, assumed=sizes.assumed)


def parseq_config(checkpoint: Checkpoint, sizes: Sizes) -> ParseqConfig:
    """Read sizes from the weights, and from the settings what no shape tells.

    Raises:
        UserError: see `convert`.
    """
    if CLASS_TOKEN in checkpoint.tensors:
        raise UserError(f"{checkpoint.path}: has {CLASS_TOKEN}, PARSeq has none; convert it as clipocr")
    refine_iters: Any = checkpoint.settings.get("refine_iters")
    return ParseqConfig(
        **vit_sizes(checkpoint, sizes, prefix_tokens=0),
        decoding="ar" if sizes.switch("decode_ar", True) else "nar",
        refine_iters=refine_iters if type(refine_iters) is int and refine_iters >= 0 else ParseqConfig.refine_iters,
    )
