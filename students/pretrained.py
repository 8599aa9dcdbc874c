"""Folders of readers: config.json and model.safetensors, found by shipped name, path or hub repository."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from students.errors import UserError

SHIPPED = Path(__file__).parent / "weights"
"""Where the shipped students live."""
RENAMED = {"refinements": "refine_iters"}
"""Keys of config.json as version 0.1 wrote them, with their names today."""
RENAMED_DECODINGS = {"greedy": "ar", "one-shot": "nar"}
"""Ways of decoding as version 0.1 wrote them, with their names today."""
Config = TypeVar("Config")


def shipped() -> list[str]:
    """Name the students that come with the package."""
    return sorted(folder.name for folder in SHIPPED.glob("*") if (folder / "model.safetensors").is_file())


def locate(name_or_folder: str | Path) -> Path:
    """Find a reader's folder: shipped name, folder, or hub repository (fetched when the network allows).

    Raises:
        UserError: when there is none; the message names what would work.
    """
    name = str(name_or_folder)
    if name in shipped():
        return SHIPPED / name
    folder = Path(name)
    if folder.is_dir():
        return folder
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _from_hub(name)
    raise UserError(
        f"no student {name!r}; give a folder with config.json and model.safetensors, or one of: {', '.join(shipped())}"
    )


def name_of(name_or_folder: str | Path) -> str:
    """Name a reader by its folder; a run's folders are called `student` and `teacher`, those go by the run's name."""
    path = Path(name_or_folder)
    if not path.is_dir():
        return str(name_or_folder)
    path = path.resolve()
    return path.parent.name if path.name in ("student", "teacher") and path.parent.name else path.name


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["config.json", "model.safetensors"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"no folder {name!r} here, and the hub can't be asked for it ({reason[:120]}); give a local folder with "
            f"config.json and model.safetensors, or one of: {', '.join(shipped())}"
        ) from None


def read_stored(folder: Path) -> dict[str, Any]:
    """Read what a reader folder's config.json says, `format` among it.

    Raises:
        UserError: when it is missing, no JSON, or no reader's.
    """
    path = folder / "config.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder}: no config.json; a student folder holds config.json and model.safetensors") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no JSON ({error}); export the student again") from None
    if not isinstance(stored, dict) or not isinstance(stored.get("format"), str):
        raise UserError(f"{path} does not describe a reader; give a folder that tools/export.py wrote")
    return stored


def config_from(kind: type[Config], stored: Mapping[str, Any], path: Path) -> Config:
    """Build a configuration, a dataclass whose fields all have plain defaults, from what JSON says.

    Raises:
        UserError: for unknown keys, and values of another type than the default's.
    """
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    values.pop("schema", None)
    for old, new in RENAMED.items():  # written by 0.1
        if old in values:
            values[new] = values.pop(old)
    if "decoding" in values:
        values["decoding"] = RENAMED_DECODINGS.get(str(values["decoding"]), values["decoding"])
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if set(values) - known:
        raise UserError(f"{path} has unknown keys {sorted(set(values) - known)}; it was written by another version")
    wrong = [key for key, value in values.items() if not _alike(value, getattr(kind, key))]
    if wrong:
        raise UserError(f"{path}: {wrong[0]} can't be {values[wrong[0]]!r}; export the student again")
    return kind(**values)


def _alike(value: object, default: object) -> bool:
    """Say whether a stored value is of its default's kind."""
    if isinstance(value, tuple) and isinstance(default, tuple):
        return len(value) == len(default) and all(type(item) is int and item > 0 for item in value)
    if dataclasses.is_dataclass(default):  # a part of its own, which its reader has checked
        return dataclasses.is_dataclass(value)
    return type(value) is type(default) or (type(default) is float and type(value) is int)


def load_weights(reader: nn.Module, folder: Path) -> None:
    """Load model.safetensors of `folder` in float32.

    Raises:
        UserError: when the file is missing, no safetensors, or another reader's.
    """
    file = folder / "model.safetensors"
    try:
        stored = load_file(file)
        check_finite(stored, str(file))
        reader.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(" ".join(str(error).splitlines()[:2]).split())
        raise UserError(f"{file} can't be loaded: {reason[:200]}; export the student again") from None


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Check that weights are numbers.

    Raises:
        UserError: naming a weight that holds NaN or infinite values.
    """
    for name, weight in weights.items():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise UserError(
                f"{source}: {name} has values that are NaN or infinite: the training diverged; take weights of an "
                "earlier step"
            )
