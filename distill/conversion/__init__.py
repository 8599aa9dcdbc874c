"""Convert checkpoints of the reference implementations to folders; a layout is a module here and a line below."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from distill.conversion.checkpoints import Checkpoint
    from distill.conversion.layout import ConversionOptions, Converted

LAYOUTS: dict[str, str] = {
    "clip4str": "CLIP4STR, with its CLIP",
    "clipocr": "CLIP-OCR, with or without its heads and its teacher",
    "parseq": "PARSeq, as released or as trained",
}
"""The programs whose checkpoints are understood; each has a module of its name here with a `convert`."""
UNKNOWN = "unknown"
"""Kind of the weights that no such checkpoint should have."""


def converter(layout: str) -> Callable[[Checkpoint, ConversionOptions], Converted]:
    """Return the `convert` of one of `LAYOUTS`, importing torch only now."""
    convert: Callable[[Checkpoint, ConversionOptions], Converted]
    convert = import_module(f"distill.conversion.{layout}").convert
    return convert
