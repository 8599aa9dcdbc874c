"""Write a CLIP as a folder in open_clip's layout, from which it can be loaded again as a teacher."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from teachers.weights import FOLDER_CONFIG, FOLDER_WEIGHTS, ClipWeights
from teachers.zoo import config_from_shapes


def save_clip(weights: ClipWeights, folder: Path) -> None:
    """Write weights, sizes, activation and input normalisation into `folder`.

    A weight that float16 holds exactly, as OpenAI's are, is stored in it; no value is changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes = config_from_shapes(weights.tensors, weights.image_size)
    config = {
        "model_cfg": {**sizes, "quick_gelu": weights.activation == "quick-gelu"},
        "preprocess_cfg": {"mean": weights.mean, "std": weights.std},
    }
    (folder / FOLDER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({name: smallest(value) for name, value in weights.tensors.items()}, folder / FOLDER_WEIGHTS[0])
    (folder / FOLDER_WEIGHTS[0]).chmod(0o644)  # safetensors makes files that only their owner can read


def smallest(value: Tensor) -> Tensor:
    """Give a tensor in float16 when that loses nothing, else in float32; contiguous, as files want it."""
    half = value.half()
    return (half if torch.equal(half.float(), value.float()) else value.float()).contiguous()
