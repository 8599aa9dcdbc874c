"""Read checkpoints of other programs safely: Lightning files, bare state dicts, safetensors. Nothing in them is run.

A training checkpoint holds more than weights: schedules, callbacks and settings, some of them objects of classes that
torch's tensors-only reader refuses. Such objects become empty stand-ins, so that the weights beside them can be read
without building anything foreign.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from students.errors import UserError

BROKEN = (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, TypeError, OSError)
"""What the readers of weights raise for a file that is none, is cut off, or asks for what isn't allowed."""
WRAPPERS = ("module.", "model.", "net.")
"""Prefixes of every name when the stored module wrapped another."""
MARKS = ("_orig_mod.", "_forward_module.")
"""What torch.compile and Lightning Fabric put into names, in front or inside."""
CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "module")
"""Keys under which training programs store the weights."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint."""

    path: Path
    tensors: dict[str, Tensor]
    """The weights by name, without the prefix of a wrapper around all of them."""
    settings: dict[str, Any]
    """The hyper-parameters that are plain values: numbers, strings, truth values, None, and lists of those."""
    steps: int | None
    """Optimizer steps it was trained for, if it says so."""

    def with_prefix(self, prefix: str) -> dict[str, Tensor]:
        """Return the weights whose names start with `prefix`, without it."""
        return {name[len(prefix) :]: value for name, value in self.tensors.items() if name.startswith(prefix)}


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a Lightning checkpoint, a bare state dict or a safetensors file.

    Raises:
        UserError: when the file is missing, damaged, no checkpoint, or can't be read without running what is in it.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a checkpoint (.ckpt, .pt, .pth or .safetensors)")
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else load_torch(path)
    except BROKEN as error:
        raise UserError(f"{path}: can't be read as a checkpoint ({reason(error)}); download it again") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, no checkpoint; give a file of weights by name")
    tensors = find_weights(content)
    if not tensors:
        raise UserError(f"{path}: holds no weights; give a Lightning checkpoint or a state dict")
    stored = content.get("hyper_parameters")
    settings = {str(k): v for k, v in stored.items() if is_plain(v)} if isinstance(stored, Mapping) else {}
    steps = content.get("global_step")
    return Checkpoint(path, unwrap(tensors), settings, steps if isinstance(steps, int) else None)


def find_weights(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Find the weights by name in a checkpoint: under one of `CONTAINERS`, however deep, or at its top."""
    for key in CONTAINERS:
        if isinstance(inner := content.get(key), Mapping) and (weights := find_weights(inner)):
            return weights
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}


def reason(error: Exception) -> str:
    """Extract what is wrong from a reader's message, which torch wraps into advice about its defaults."""
    lines = (line.rpartition("WeightsUnpickler error:")[2].strip() for line in str(error).splitlines())
    # For some files it says nothing but a number: the opcode that it doesn't know.
    useful = (line for line in lines if line.strip("'0123456789") and not line.startswith("Weights only load failed"))
    return next(useful, type(error).__name__)[:200]


def load_torch(path: Path) -> Any:
    """Load a torch file with the tensors-only reader, foreign objects as `StandIn`.

    Raises:
        UnpicklingError: for what even stand-ins don't make harmless.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        names = get_unsafe_globals_in_checkpoint(path)
        stand_ins = [(StandInDict if name.lower().endswith("dict") else StandIn, name) for name in names]
        with safe_globals(stand_ins):  # type: ignore[arg-type]
            return torch.load(path, map_location="cpu", weights_only=True)


class StandIn:
    """An empty object in place of one whose class, or whose function, is foreign."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        """Ignore the state."""


class StandInDict:
    """A plain dictionary in place of a foreign kind of one: torch puts entries only into a true one."""

    def __new__(cls, *_: object, **__: object) -> OrderedDict[str, Any]:  # type: ignore[misc]
        """Return the plain one."""
        return OrderedDict()


def is_plain(value: object) -> bool:
    """Tell whether a setting is a plain value."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def unwrap(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the marks of compilers from names, and the prefixes of wrappers that all names share."""
    for mark in MARKS:
        tensors = {name.replace(mark, ""): value for name, value in tensors.items()}
    while wrapper := next((each for each in WRAPPERS if all(name.startswith(each) for name in tensors)), None):
        tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return tensors
