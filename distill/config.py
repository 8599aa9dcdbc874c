"""The configuration: YAML and `key=value` merged into the dataclasses of the schemas, checked, and written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from rapidfuzz import process
from yaml import YAMLError

from distill.data.sections import DataSection, SourceSection, SyntheticSection
from distill.schema import (
    AuxSection,
    Config,
    EvalSection,
    GuidanceSection,
    OptimSection,
    ScheduleSection,
    SchedulesSection,
    StudentSection,
    TeacherSection,
    TrainSection,
)
from distill.teacher_schema import (
    Clip4StrSection,
    ContrastiveSection,
    ParseqSection,
    PermutationsSection,
    TeacherConfig,
)
from students.errors import UserError
from students.files import write_file

__all__ = [
    "AuxSection",
    "Clip4StrSection",
    "Config",
    "ContrastiveSection",
    "DataSection",
    "EvalSection",
    "GuidanceSection",
    "OptimSection",
    "ParseqSection",
    "PermutationsSection",
    "ScheduleSection",
    "SchedulesSection",
    "SourceSection",
    "StudentSection",
    "SyntheticSection",
    "TeacherConfig",
    "TeacherSection",
    "TrainSection",
    "as_dict",
    "known_keys",
    "load_config",
    "save_config",
]  # fmt: skip

_INSTALLED = Path(str(resources.files("distill"))) / "configs"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parent.parent / "configs"
"""The complete, runnable configurations that come with the package; a clone has them beside the package."""
LEAST = {
    "seed": 0, "contrastive.hard_negatives": 0, "contrastive.max_edits": 1, "guidance.interval": 1,
    "guidance.max_rows": 1, "guidance.linguistic": 0, "guidance.visual": 0, "guidance.bridge": 0, "guidance.kd": 0,
    "guidance.dkd": 0, "guidance.pseudo_label_weight": 0, "guidance.pseudo_label_threshold": 0,
    "guidance.temperature": 0.01, "aux.ctc": 0, "aux.columns": 0, "aux.columns_until": 0, "contrastive.ctc": 0,
    "contrastive.columns": 0, "contrastive.columns_until": 0, "contrastive.spelling": 0, "contrastive.text_queue": 0,
    "optim.grad_clip": 0, "train.threads": 0, "student.max_length": 1, "student.width": 1,
    "student.refine_iters": 0, "train.steps": 1, "train.batch_size": 1, "train.grad_accum": 1,
    "train.validate_every": 1, "train.checkpoint_every": 1, "train.keep": 1, "train.log_every": 1,
    "clip4str.max_length": 1, "clip4str.decoder_depth": 1, "clip4str.refine_iters": 0, "clip4str.context": 3,
    "clip4str.cross_weight": 0, "permutations.count": 1, "parseq.max_length": 1, "parseq.depth": 1,
    "parseq.decoder_depth": 1, "parseq.refine_iters": 0,
}  # fmt: skip
"""The smallest value that some keys can have; those of `data` stand with their fields (`metadata`)."""

LISTS = {SourceSection: "data.train[]", TeacherSection: "teachers[]"}
"""Sections of which there are lists, by what their entries are called."""

Schema = TypeVar("Schema", Config, TeacherConfig)


def load_config(
    schema: type[Schema], source: str | Path | Mapping[str, Any], overrides: Sequence[str] | Mapping[str, Any] = ()
) -> Schema:
    """Merge defaults, a configuration and overrides.

    Args:
        schema: the dataclass of the configuration.
        source: a YAML file, the name of a shipped one, or its content.
        overrides: `key=value` with YAML values, or values by key; a key may have dots, a value may be a section.

    Raises:
        UserError: for a missing file, a key that is unknown (naming the nearest known), or a value of the wrong kind.
    """
    merged: Any = OmegaConf.structured(schema)
    path = "the configuration" if isinstance(source, Mapping) else str(_find(source))
    given = several(dict(source) if isinstance(source, Mapping) else _read_yaml(Path(path)))
    try:
        _check_containers(schema(), given)
        merged = OmegaConf.merge(merged, given)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (OmegaConfBaseException, TypeError) as error:
        raise UserError(f"{path}: {_explain(schema, error)}") from None
    items = overrides.items() if isinstance(overrides, Mapping) else map(_read_override, overrides)
    for given_key, given_value in items:
        key, value = next(iter(several({given_key: given_value}).items()))
        try:
            _check_containers(schema(), nested(key, value))
            OmegaConf.update(merged, key, value)
        except UserError as error:
            raise UserError(f"{given_key}={given_value}: {error}") from None
        except (OmegaConfBaseException, TypeError, ValueError) as error:
            raise UserError(f"{given_key}={given_value}: {_explain(schema, error, key)}") from None
    try:
        config: Schema = OmegaConf.to_object(merged)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {_explain(schema, error)}") from None
    _check_least(config)
    return config


def save_config(config: Config | TeacherConfig, path: Path) -> None:
    """Write the resolved configuration as YAML, beside its place and renamed."""
    write_file(path, OmegaConf.to_yaml(OmegaConf.structured(config)))


def as_dict(config: Config | TeacherConfig) -> dict[str, Any]:
    """Give the configuration as plain dictionaries and lists."""
    return dataclasses.asdict(config)


def known_keys(schema: type, prefix: str = "") -> list[str]:
    """List every key of a schema with dots, sections and their fields (docs/reference/config.md names them all)."""
    keys = []
    for part in dataclasses.fields(schema):
        keys.append(prefix + part.name)
        made = part.default_factory() if part.default_factory is not dataclasses.MISSING else None
        if dataclasses.is_dataclass(made):
            keys += known_keys(type(made), f"{prefix}{part.name}.")
    return keys


def several(given: Any) -> Any:
    """Call a list under `teacher` by its own name, `teachers`."""
    if isinstance(given, dict) and isinstance(given.get("teacher"), list):
        return {("teachers" if key == "teacher" else key): value for key, value in given.items()}
    return given


def _find(file: str | Path) -> Path:
    path = Path(file)
    if not path.exists() and path.parent in (Path(), Path("configs")):  # so that they are found outside the clone too
        path = SHIPPED / (path.name if path.suffix == ".yaml" else f"{path.name}.yaml")
    if not path.is_file():
        names = ", ".join(sorted(shipped.stem for shipped in SHIPPED.glob("*.yaml")))
        raise UserError(f"{file}: no such configuration; give a YAML file or one of: {names}")
    return path


def _read_yaml(path: Path) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception as error:  # yaml has its own error classes, which omegaconf passes on
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from None


def _read_override(item: str) -> tuple[str, Any]:
    key, equals, value = item.partition("=")
    if not equals or not key.strip("."):
        raise UserError(f"{item!r} is no override; write key=value, such as train.steps=1000")
    try:
        # Not resolved: `out=runs/${name}` means this configuration's name.
        return key, OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]), resolve=False)["value"]  # type: ignore[index, call-overload]
    except YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{item}: the value is no YAML ({reason}); put it in quotes") from None


def _explain(schema: type, error: Exception, given: str = "") -> str:
    key = str(getattr(error, "full_key", None) or given)
    reason = str(error).splitlines()[0]
    if not isinstance(error, ConfigAttributeError | ConfigKeyError):
        return f"{key}: {reason}" if key and key != given else reason
    keys = known_keys(schema)
    listed = getattr(error, "object_type", None)
    if listed in LISTS and "." not in key:
        key, keys = f"{LISTS[listed]}.{key}", known_keys(listed, f"{LISTS[listed]}.")
    asked = given if given.startswith(key) else key
    near = process.extractOne(asked, keys)
    return f"unknown key {asked!r}" + (f"; the nearest known one is {near[0]!r}" if near else "")


def nested(key: str, value: Any) -> Any:
    """Write a value under a key with dots as dictionaries in each other; one into a list (`teachers[0]`) as nothing."""
    for name in reversed(key.split(".")):
        value = {} if "[" in name else {name: value}
    return value


def _check_containers(section: Any, given: Any, key: str = "") -> None:
    """Refuse a list or a single value where a section belongs, and the reverse; what else is wrong omegaconf finds."""
    if isinstance(given, str) and given.startswith("${"):
        return
    if not isinstance(given, dict):
        names = ", ".join(part.name for part in dataclasses.fields(section))
        raise UserError(f"{key or 'a configuration'} is a section with the keys {names}; write them below it")
    for name, value in given.items():
        default, place = getattr(section, str(name), None), f"{key}.{name}" if key else str(name)
        if dataclasses.is_dataclass(default):
            _check_containers(default, value, place)
        elif isinstance(default, list) and not isinstance(value, list | str):
            raise UserError(f"{place} is a list; write its entries with a dash each, or as [...]")


def _check_least(config: Config | TeacherConfig) -> None:
    for key, least in LEAST.items():
        value: Any = config
        for name in key.split("."):
            value = getattr(value, name, None)
        if value is not None and value < least:
            raise UserError(f"{key}={value} is too small; give {least} or more")
    _check_bounds(config)


def _check_bounds(section: Any, prefix: str = "") -> None:
    """Check the bounds that fields carry as metadata (`least`, `most`), in sections and lists of sections."""
    for part in dataclasses.fields(section):
        key, value = prefix + part.name, getattr(section, part.name)
        if dataclasses.is_dataclass(value):
            _check_bounds(value, f"{key}.")
        for number, entry in enumerate(value if isinstance(value, list) else ()):
            if dataclasses.is_dataclass(entry):
                _check_bounds(entry, f"{key}[{number}].")
        least, most = part.metadata.get("least"), part.metadata.get("most")
        if value is not None and least is not None and value < least:
            raise UserError(f"{key}={value} is too small; give {least} or more")
        if value is not None and most is not None and value > most:
            raise UserError(f"{key}={value} is too large; give {most} or less")
