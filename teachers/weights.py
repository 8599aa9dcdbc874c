"""Read CLIP weights from a local file, and the activation that they were trained with.

OpenAI's weights need quick-GELU, x * sigmoid(1.702 x); most of OpenCLIP's need the exact GELU. The shapes are the
same, and the wrong one gives wrong features without an error, so it is read from the file or given by name,
and never guessed (docs/method.md, section 1.1).
"""

from __future__ import annotations

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from open_clip.constants import (
    HF_SAFE_WEIGHTS_NAME,
    HF_WEIGHTS_NAME,
    OPENAI_DATASET_MEAN,
    OPENAI_DATASET_STD,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from students.errors import UserError

Activation = Literal["quick-gelu", "gelu"]
OPENAI_INTEGERS = ("input_resolution", "context_length", "vocab_size")
"""Integer entries that only OpenAI's own state dicts have; they are no weights."""
FOLDER_CONFIG = "open_clip_config.json"
FOLDER_WEIGHTS = (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
"""open_clip's names of weights in a folder; the first one is written here."""
UNROUNDED = ("embedding", "ln_", "logit_scale")
"""Parts of the names of weights that OpenAI's loader does not round to float16."""

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training programs store a state dict."""
PREFIXES = re.compile(r"^((module|_orig_mod|_forward_module)\.)*(text\.)?")
"""Prefixes of names that wrappers of a model add, and open_clip for a text tower of its own."""


@dataclass(frozen=True)
class ClipWeights:
    """The content of a weights file, in the layout of open_clip's `CLIP`."""

    tensors: dict[str, Tensor]
    """Floating tensors in float32."""
    activation: Activation | None
    """The activation, None when the file does not determine it."""
    reason: str
    """The evidence for the activation."""
    mean: tuple[float, ...] = OPENAI_DATASET_MEAN
    """Input normalisation of the image tower."""
    std: tuple[float, ...] = OPENAI_DATASET_STD
    image_size: tuple[int, int] | None = None
    """Height and width of the pictures that its positions belong to; None when the file doesn't say: square ones."""


def read_weights(path: str | Path) -> ClipWeights:
    """Read a state dict, a TorchScript archive, an open_clip `.bin` / `.pt` or a `.safetensors` file.

    Nothing is unpickled freely: state dicts go through `torch.load(weights_only=True)`. A TorchScript archive can't;
    it goes through `torch.jit.load`, whose reader builds TorchScript objects only and runs no Python, though it is
    not the tensors-only reader either. None of the archive's methods is called, its parameters are taken.

    Raises:
        UserError: the file is missing, no weights file, or holds no CLIP with a ViT.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a CLIP weights file (.pt, .bin or .safetensors)")
    activation: Activation | None = None
    reason = ""
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        elif is_torchscript(path):
            activation, reason = torchscript_activation(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript is deprecated, OpenAI's archives are what they are
                content = torch.jit.load(path, map_location="cpu").state_dict()
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, OSError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: can't be read as weights ({line}); give a CLIP weights file") from None
    tensors = clip_tensors(content, path)
    openai = set(OPENAI_INTEGERS) <= set(tensors)
    if activation is None and openai:
        activation, reason = "quick-gelu", "the file is an OpenAI state dict"
    beside = read_folder_config(path.parent / FOLDER_CONFIG)
    if activation is None and beside is not None:
        quick = bool(beside.get("model_cfg", {}).get("quick_gelu", False))
        activation, reason = ("quick-gelu" if quick else "gelu"), f"{FOLDER_CONFIG} beside the file says so"
    preprocess = (beside or {}).get("preprocess_cfg", {})
    floats = {
        name: value.half().float() if openai and not any(part in name for part in UNROUNDED) else value.float()
        for name, value in tensors.items() if name not in OPENAI_INTEGERS
    }  # fmt: skip
    return ClipWeights(
        floats,
        activation,
        reason,
        tuple(preprocess.get("mean", OPENAI_DATASET_MEAN)),
        tuple(preprocess.get("std", OPENAI_DATASET_STD)),
        read_image_size(beside or {}),
    )


def weights_in(folder: Path) -> Path | None:
    """Find the weights in a folder of open_clip's layout; None for a folder of another."""
    return next((folder / name for name in FOLDER_WEIGHTS if (folder / name).is_file()), None)


def read_image_size(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Read the picture size of an open_clip configuration; None for square pictures, whose size the weights give."""
    size = config.get("model_cfg", {}).get("vision_cfg", {}).get("image_size")
    return (int(size[0]), int(size[1])) if isinstance(size, list) and len(size) == 2 else None


def is_torchscript(path: Path) -> bool:
    """Check whether a file is a TorchScript archive: a zip with code and constants."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def torchscript_activation(path: Path) -> tuple[Activation | None, str]:
    """Find the activation in the code of a TorchScript archive."""
    with zipfile.ZipFile(path) as archive:
        code = "\n".join(
            archive.read(name).decode("utf-8", "replace") for name in archive.namelist() if name.endswith(".py")
        )
    quick, exact = "torch.sigmoid(" in code, "torch.gelu(" in code
    if quick == exact:
        return None, ""
    return ("quick-gelu" if quick else "gelu"), "the code in the TorchScript archive computes it"


def clip_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Find the state dict in what a file holds and bring its names to the layout of open_clip's `CLIP`."""
    if isinstance(content, Mapping):
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no state dict; give a CLIP weights file")
    tensors = {PREFIXES.sub("", str(name)): value for name, value in content.items()}
    if "visual.layer1.0.conv1.weight" in tensors:
        raise UserError(f"{path}: the image tower is a ResNet; choose a CLIP with a ViT (ViT-B-16, ViT-B-32, ...)")
    needed = {"visual.conv1.weight", "visual.positional_embedding", "positional_embedding", "token_embedding.weight"}
    if missing := sorted(needed - set(tensors)):
        raise UserError(f"{path}: holds no CLIP with a ViT ({missing[0]} is missing); give a CLIP weights file")
    return tensors


def read_folder_config(file: Path) -> dict[str, Any] | None:
    """Read the configuration that open_clip writes beside its weights, None where there is none."""
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{file}: can't be read; move it away or mend it") from None
    return content if isinstance(content, dict) else None


def count_blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Count the transformer blocks whose names start with `prefix`."""
    return len({name[len(prefix) :].partition(".")[0] for name in tensors if name.startswith(prefix)})
