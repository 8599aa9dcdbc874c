"""What a conversion is asked for and what it gives: a reader, and an account of every weight in the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from distill.conversion.checkpoints import Checkpoint
from students.errors import UserError

SHOWN = 12
"""Names that an error message lists before it counts."""


@dataclass(frozen=True)
class ConversionOptions:
    """What the user says beside the checkpoint."""

    charset: str | None = None
    """Alphabet, for a file that doesn't say: 36, 62, 94 or a text file."""
    heads: tuple[int, int] | None = None
    """Attention heads of encoder and decoder, for a file that doesn't say."""
    image: tuple[int, int] | None = None
    """Height and width of the pictures in pixels, for a file that doesn't say."""
    clip: Path | None = None
    """Weights of the frozen CLIP that a CLIP-OCR was trained with."""
    guidance: bool = False
    """Keep what only training needs, when the checkpoint has it."""


@dataclass(frozen=True)
class Converted:
    """A converted reader and what became of the file's weights."""

    reader: Any
    """The reader, with its weights: a module with `save_pretrained`."""
    unused: Mapping[str, list[str]] = field(default_factory=dict)
    """Names in the file that the reader has no place for, by what they are."""
    missing: list[str] = field(default_factory=list)
    """Names that belong to such a checkpoint and aren't in the file, though reading doesn't need them."""
    assumed: list[str] = field(default_factory=list)
    """Sizes that the file doesn't tell, and what was taken for them."""
    parts: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    """What else goes into the folder: names of folders in it, and what writes each."""


def fill(module: nn.Module, checkpoint: Checkpoint, stored_name: Callable[[str], str] = str) -> set[str]:
    """Load every weight of a module from a checkpoint, in the module's own precision.

    Args:
        module: what is filled.
        checkpoint: where the weights are.
        stored_name: gives a weight's name in the file from its own.

    Returns:
        The names in the file that were used.

    Raises:
        UserError: when a weight is missing or has another shape; the first of them are named, see `SHOWN`.
    """
    own = module.state_dict()
    stored, names = checkpoint.tensors, {name: stored_name(name) for name in own}
    if missing := [told for told in names.values() if told not in stored]:
        raise UserError(f"{checkpoint.path}: lacks {listed(missing)}; give the whole checkpoint")
    misfits = [
        f"{told} {(*stored[told].shape,)} for {(*own[name].shape,)}"
        for name, told in names.items() if stored[told].shape != own[name].shape
    ]  # fmt: skip
    if misfits:
        raise UserError(f"{checkpoint.path}: {listed(misfits)}: shapes of another program; its sizes can't be told")
    module.load_state_dict({name: stored[told].to(own[name].dtype) for name, told in names.items()})
    return set(names.values())


def listed(names: list[str]) -> str:
    """List names in a message, counting those beyond `SHOWN`."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
