"""Load a CLIP with a ViT: by name and tag from open_clip's zoo, or from a local file by the shapes of its weights."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT
from open_clip import CLIP, SimpleTokenizer
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from safetensors.torch import save_file
from torch import Tensor

from students.errors import UserError
from teachers.names import CLIP_FILE, CLIP_FOLDER, Resolved, unknown_name
from teachers.small import FORMAT as SMALL_TEACHER
from teachers.small import SmallTeacher
from teachers.weights import (
    FOLDER_CONFIG,
    FOLDER_WEIGHTS,
    Activation,
    ClipWeights,
    count_blocks,
    read_weights,
    weights_in,
)

logger = logging.getLogger(__name__)
CLIP_VOCABULARY = 49408
HUB_FILES = (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
FOREIGN_PARTS = ("timm_model_name", "attentional_pool", "hf_model_name", "hf_tokenizer_name", "embed_cls")
"""Settings of towers that are not open_clip's own ViT, or of text towers that are not CLIP's."""


@dataclass(frozen=True)
class LoadedClip:
    """A CLIP with its weights, its tokenizer, and the normalisation of its input."""

    clip: CLIP
    tokenizer: SimpleTokenizer
    mean: tuple[float, ...]
    std: tuple[float, ...]
    activation: Activation
    reason: str
    """The evidence for the activation."""
    sizes: dict[str, Any]
    """`embed_dim`, `vision_cfg` and `text_cfg` as open_clip's `CLIP` takes them."""


def load_clip(resolved: Resolved) -> SmallTeacher | LoadedClip:
    """Load the weights of a CLIP that `teachers.names.resolve` found.

    Raises:
        UserError: a reader, missing or foreign weights, no network, or an activation that can't be determined.
    """
    if not resolved.is_clip:
        raise UserError(
            f"{resolved.name} is a reader ({resolved.format}), not a CLIP; give words-small, a CLIP or its weights"
        )
    if resolved.format == SMALL_TEACHER:
        return SmallTeacher.load(resolved.path, resolved.stored)
    if resolved.format == CLIP_FOLDER:
        return load_file(weights_in(resolved.path) or resolved.path)
    if resolved.format == CLIP_FILE:
        return load_file(resolved.path, resolved.architecture, resolved.tag)
    architecture = resolved.architecture or resolved.name
    if resolved.tag is None:
        zoo_config(architecture)
        tags = ", ".join(zoo_tags(architecture))
        raise UserError(f"{resolved.name} is a model without weights; say which: {architecture}/TAG with TAG of {tags}")
    return load_zoo(architecture, resolved.tag)


def load_zoo(name: str, tag: str) -> LoadedClip:
    """Load a model of open_clip's zoo, downloading its weights when they aren't in the cache.

    Raises:
        UserError: unknown name or tag, a model that isn't a plain ViT with CLIP's tokenizer, or no network.
    """
    config = zoo_config(name)
    known = get_pretrained_cfg(name, tag)
    if not known:
        raise UserError(f"{name} has no weights called {tag!r}; it has {', '.join(zoo_tags(name)) or 'none'}")
    try:
        file = fetch(known)
    except Exception as error:  # every client library has its own family of network errors
        source = (known.get("hf_hub") or known.get("url") or name).strip("/")
        raise UserError(
            f"{name}/{tag}: its weights can't be fetched ({type(error).__name__}); without network fetch {source} "
            f"elsewhere and give the file as weights=PATH beside the name {name}/{tag}, or use the teacher words-small"
        ) from None
    activation: Activation = "quick-gelu" if known.get("quick_gelu") else "gelu"
    weights = read_weights(file)
    return build(weights, config, activation, f"open_clip's zoo says so for {tag}", known["mean"], known["std"])


def fetch(known: dict[str, Any]) -> str:
    """Return the path of a tag's weights: from the hub's cache, else downloaded.

    The hub's client tries for most of a minute before it gives up, so the hub is asked once first.

    Raises:
        OSError: the hub can't be reached.
    """
    repository, file = os.path.split(known.get("hf_hub", ""))
    if repository:
        for candidate in [file] if file else HUB_FILES:
            cached = try_to_load_from_cache(repository, candidate)
            if isinstance(cached, str):
                return cached
        with contextlib.suppress(urllib.error.HTTPError):  # any answer is an answer
            urllib.request.urlopen(urllib.request.Request(ENDPOINT, method="HEAD"), timeout=10).close()
    return str(download_pretrained(known))


def load_file(path: str | Path, name: str | None = None, tag: str | None = None) -> LoadedClip:
    """Load a local weights file; the model's sizes are read from its weights.

    Args:
        path: see `teachers.weights.read_weights`.
        name: the zoo's name for the model, which may end in `-quickgelu`; settles what the file leaves open.
        tag: the zoo's tag for the weights; settles what the file leaves open.

    Raises:
        UserError: no CLIP with a ViT in the file, or its activation can't be determined.
    """
    weights = read_weights(path)
    activation, reason = weights.activation, weights.reason
    claimed: Activation | None = None
    if name is not None and tag is not None:
        known = get_pretrained_cfg(name, tag)
        if not known:
            raise UserError(f"{name} has no weights called {tag!r}; it has {', '.join(zoo_tags(name)) or 'none'}")
        claimed = "quick-gelu" if known.get("quick_gelu") else "gelu"
    elif name is not None and name.endswith("-quickgelu"):
        claimed = "quick-gelu"
    if activation is None and claimed is not None:
        activation, reason = claimed, f"the name {name}{'/' + tag if tag else ''} says so"
    elif activation is not None and claimed not in (None, activation):
        logger.warning("%s: %s is used although the name says %s: %s", path, activation, claimed, reason)
    if activation is None:
        raise UserError(
            f"{path}: can't tell whether its activation is quick-GELU or GELU; name the weights by their tag "
            "(NAME/TAG as in open_clip), or NAME-quickgelu, or put open_clip_config.json beside the file"
        )
    config = matching_config(weights, name, path)
    return build(weights, config, activation, reason, weights.mean, weights.std)


def build(
    weights: ClipWeights,
    config: dict[str, Any],
    activation: Activation,
    reason: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> LoadedClip:
    """Build the model of `config` in float32, load its weights and log which activation was chosen."""
    sizes = {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
    model = CLIP(**sizes, quick_gelu=activation == "quick-gelu")
    tensors = dict(weights.tensors)
    tensors["logit_scale"] = tensors.get("logit_scale", model.logit_scale.detach()).reshape(())
    tensors.pop("logit_bias", None)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise UserError(f"the weights don't fit their model ({' '.join(lines[1:2]).strip()}); check its name") from None
    logger.info("CLIP with %s: %s", activation, reason)
    tokenizer = SimpleTokenizer(**(config["text_cfg"].get("tokenizer_kwargs") or {}))
    return LoadedClip(model.eval(), tokenizer, tuple(mean), tuple(std), activation, reason, sizes)


def zoo_config(name: str) -> dict[str, Any]:
    """Return the zoo's configuration of a model; raises `UserError` for one that can't be a teacher here."""
    if name not in open_clip.list_models():
        raise unknown_name(name)
    config: dict[str, Any] = open_clip.get_model_config(name)
    if not is_plain(config):
        raise UserError(
            f"{name}: only CLIPs with open_clip's own ViT and CLIP's tokenizer can be teachers; try ViT-B-16"
        )
    return config


def is_plain(config: dict[str, Any]) -> bool:
    """Check whether a configuration is a ViT with class token and a causal text tower read at the end token."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    foreign = any(vision.get(part) or text.get(part) for part in FOREIGN_PARTS) or "multimodal_cfg" in config
    causal = not text.get("no_causal_mask") and text.get("pool_type", "argmax") == "argmax"
    plain_ends = not text.get("final_ln_after_pool") and text.get("vocab_size", CLIP_VOCABULARY) == CLIP_VOCABULARY
    return not foreign and causal and plain_ends and isinstance(vision.get("layers", 12), int)


def zoo_tags(name: str) -> list[str]:
    """Return the tags of a model's weights."""
    return list(open_clip.list_pretrained_tags_by_model(name))


def matching_config(weights: ClipWeights, name: str | None, path: str | Path) -> dict[str, Any]:
    """Find the configuration of a state dict: sizes from its shapes, the rest from a zoo model of the same sizes.

    The number of heads isn't in the shapes. It comes from the named model, from any model of the zoo with the same
    sizes, or else from OpenAI's rule, width // 64.
    """
    shapes = config_from_shapes(weights.tensors, weights.image_size)
    if shapes["text_cfg"]["vocab_size"] != CLIP_VOCABULARY:
        entries = shapes["text_cfg"]["vocab_size"]
        raise UserError(f"{path}: its vocabulary has {entries} entries, CLIP's tokenizer {CLIP_VOCABULARY}; no teacher")
    matching: dict[str, Any] | None = None
    for candidate in open_clip.list_models():
        config = open_clip.get_model_config(candidate)
        same = is_plain(config) and sizes_of(config) == sizes_of(shapes)
        if same and (matching is None or candidate == name):
            matching = config
        if candidate == name and not same:
            logger.warning("%s: the weights have other sizes than %s; the sizes are read from the weights", path, name)
    if matching is None:
        return shapes
    for tower, size in (("vision_cfg", "image_size"), ("text_cfg", "context_length")):
        matching[tower][size] = shapes[tower][size]
    return matching


def config_from_shapes(tensors: dict[str, Tensor], image_size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Read a CLIP's sizes from the shapes of its weights; its pictures are square unless `image_size` is given."""
    width, _, patch, _ = tensors["visual.conv1.weight"].shape
    grid = round((tensors["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    vocabulary, text_width = tensors["token_embedding.weight"].shape
    return {
        "embed_dim": tensors["text_projection"].shape[1],
        "vision_cfg": {
            "layers": count_blocks(tensors, "visual.transformer.resblocks."),
            "width": width,
            "head_width": min(64, width),
            "patch_size": patch,
            "image_size": grid * patch if image_size is None else image_size,
        },
        "text_cfg": {
            "context_length": tensors["positional_embedding"].shape[0],
            "vocab_size": vocabulary,
            "width": text_width,
            "heads": max(1, text_width // 64),
            "layers": count_blocks(tensors, "transformer.resblocks."),
        },
    }


def sizes_of(config: dict[str, Any]) -> tuple[int, ...]:
    """Return the sizes that determine the shapes of a model, apart from image size and context."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    image = (vision.get("width", 768), vision.get("layers", 12), vision.get("patch_size", 16))
    return *image, text.get("width", 512), text.get("layers", 12), config["embed_dim"]


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
    """Convert a tensor to float16 when that loses nothing, else to float32; contiguous, as safetensors needs it."""
    half = value.half()
    return (half if torch.equal(half.float(), value.float()) else value.float()).contiguous()
