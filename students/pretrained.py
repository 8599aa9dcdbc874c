"""Folders of readers (config.json and model.safetensors), found by shipped name, path or hub repository.

The module imports no torch before weights are loaded.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from students.errors import UserError
from students.language_model import OWN_FILE

if TYPE_CHECKING:
    from torch import Tensor, nn

LOG = logging.getLogger(__name__)
SHIPPED = Path(__file__).parent / "weights"
"""Folder of the shipped students."""
HUB_FILES = ("config.json", "model.safetensors", "README.md", OWN_FILE)
"""What a reader's repository on the hub is asked for: also its card, which has its terms."""
SCHEMA = 1
"""Version of the form of config.json."""
MOST_LAYERS, LARGEST_SIZE = 1000, 2**16
"""Of a stored configuration; larger values are damage, and would be built before the weights are looked at."""
RENAMED = {"refinements": "refine_iters"}
"""Keys of config.json as version 0.1 wrote them, with their names today."""
RENAMED_DECODINGS = {"greedy": "ar", "one-shot": "nar"}
"""Decodings as version 0.1 wrote them, with their names today."""
Config = TypeVar("Config")


def shipped() -> list[str]:
    """Return the names of the students that come with the package."""
    return sorted(folder.name for folder in SHIPPED.glob("*") if (folder / "model.safetensors").is_file())


def typed(name_or_path: str | Path) -> str:
    """Return a name or path as text; a `Path` is never taken for a shipped name, and "" raises `UserError`."""
    if name_or_path == "":
        raise UserError("an empty name is no reader; give a name or a path")
    return name_or_path if isinstance(name_or_path, str) else os.path.join(os.curdir, name_or_path)


def locate(name_or_folder: str | Path) -> Path:
    """Find a reader's folder: shipped name, folder, or hub repository, which is downloaded.

    Raises:
        UserError: when there is none; the message names what would work.
    """
    name = typed(name_or_folder)
    if name in shipped():
        if (Path(name) / "config.json").is_file():
            _tell_which(name)
        return SHIPPED / name
    folder = Path(name)
    if os.path.isdir(folder):  # unlike Path.is_dir it takes a name that is too long for one that isn't there
        return folder
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return _from_hub(name)
    raise UserError(
        f"no student {name!r}; give a folder with config.json and model.safetensors, or one of: {', '.join(shipped())}"
    )


@cache
def _tell_which(name: str) -> None:
    """Say, once, which of two readers a name stands for."""
    LOG.warning("%s is the shipped reader; for the folder of that name give ./%s", name, name)


def name_of(name_or_folder: str | Path) -> str:
    """Return the name that tables use for a reader: its folder's, its repository's on the hub, or its run's."""
    path = Path(name_or_folder)
    if not os.path.isdir(path):
        return str(name_or_folder)
    path = path.resolve()
    if path.parent.name == "snapshots":  # the hub's cache: models--OWNER--NAME/snapshots/COMMIT
        return path.parent.parent.name.split("--")[-1]
    return path.parent.name if path.name in ("student", "teacher") and path.parent.name else path.name


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"no folder {name!r} here, and the hub can't be asked for it ({reason[:120]}); give a local folder with "
            f"config.json and model.safetensors, or one of: {', '.join(shipped())}"
        ) from None


def read_stored(folder: Path) -> dict[str, Any]:
    """Read a reader folder's config.json.

    Raises:
        UserError: when it is missing, no JSON, or has no `format`.
    """
    path = folder / "config.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        for name in ("student", "teacher"):
            if (folder / name / "config.json").is_file():
                raise UserError(f"{folder} is a run; its {name} is {folder / name}") from None
        raise UserError(f"{folder}: no config.json; a student folder holds config.json and model.safetensors") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no JSON ({error}); export the student again") from None
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}); allow it, or give another reader") from None
    if not isinstance(stored, dict) or not isinstance(stored.get("format"), str):
        raise UserError(f"{path} does not describe a reader; give a folder that `symdistill export` wrote")
    return stored


def config_from(kind: type[Config], stored: Mapping[str, Any], path: Path) -> Config:
    """Build a configuration, a dataclass whose fields all have plain defaults, from stored JSON.

    Raises:
        UserError: for unknown keys, and in the package's own configurations values of another type than the default's.
    """
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    if (schema := values.pop("schema", SCHEMA)) != SCHEMA:  # missing in folders of 0.1
        raise UserError(f"{path} was written by a later version (schema {schema!r}); update symdistill to read it")
    for old, new in RENAMED.items():  # written by 0.1
        if old in values:
            values[new] = values.pop(old)
    if "decoding" in values:
        values["decoding"] = RENAMED_DECODINGS.get(str(values["decoding"]), values["decoding"])
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if set(values) - known:
        raise UserError(f"{path} has unknown keys {sorted(set(values) - known)}; it was written by another version")
    # What the configurations of registered readers may hold is their own affair.
    ours = kind.__module__.partition(".")[0] in ("students", "teachers")
    wrong = [key for key, value in values.items() if ours and not _same_type(value, getattr(kind, key))]
    if wrong:
        raise UserError(f"{path}: {wrong[0]} can't be {values[wrong[0]]!r}; export the student again")
    for key, value in values.items() if ours else ():
        most = MOST_LAYERS if key.endswith(("depth", "layers", "refine_iters")) else LARGEST_SIZE
        if any(type(number) is int and number > most for number in (value if isinstance(value, tuple) else (value,))):
            raise UserError(f"{path}: {key} can't be {value!r}, more than {most}; export the student again")
    return kind(**values)


def _same_type(value: object, default: object) -> bool:
    """Whether a stored value is of its default's type."""
    if isinstance(value, tuple) and isinstance(default, tuple):
        return len(value) == len(default) and all(type(item) is int and item > 0 for item in value)
    if dataclasses.is_dataclass(default):  # a nested configuration, which its class has checked
        return dataclasses.is_dataclass(value)
    return type(value) is type(default) or (type(default) is float and type(value) is int)


def load_weights(reader: nn.Module, folder: Path) -> None:
    """Load model.safetensors of `folder` in float32.

    Raises:
        UserError: when the file is missing, no safetensors, of another reader, or has values that are no numbers.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = folder / "model.safetensors"
    try:
        stored = load_file(file)
        check_finite(stored, str(file))
        reader.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(" ".join(str(error).splitlines()[:2]).split())
        raise UserError(f"{file} can't be loaded: {reason[:200]}; export the student again") from None


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Check that all weights are finite.

    Raises:
        UserError: naming a weight that holds NaN or infinite values.
    """
    for name, weight in weights.items():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise UserError(
                f"{source}: {name} has values that are NaN or infinite: the training diverged; take weights of an "
                "earlier step"
            )
