"""Conversion: published checkpoints become folders of ours. Adding a layout is a module here and a line below."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from distill.conversion.checkpoints import Checkpoint
    from distill.conversion.converted import ConversionOptions, Converted

LAYOUTS: dict[str, str] = {
    "clip4str": "CLIP4STR, with its CLIP",
    "clipocr": "CLIP-OCR, with or without its heads and its teacher",
    "parseq": "PARSeq, as released or as trained",
}
"""The published programs whose checkpoints are understood; each has a module of its name here with a `convert`."""
UNKNOWN = "unknown"
"""What weights are called that no program's checkpoint should have."""


def converter(layout: str) -> Callable[[Checkpoint, ConversionOptions], Converted]:
    """Give the `convert` of one of `LAYOUTS`; torch is not imported before."""
    convert: Callable[[Checkpoint, ConversionOptions], Converted]
    convert = import_module(f"distill.conversion.{layout}").convert
    return convert
