"""The configuration: YAML files and overrides merged into the dataclasses of the schema, checked, and written."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_origin

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError
from rapidfuzz import process

from distill.fields import check_bounds, describe_type, entry_name, field_types, is_text, section_of, type_at
from distill.old_keys import refuse_old_keys
from distill.schema import Config, TeacherConfig
from distill.training.sections import LossSection
from students.errors import UserError
from students.files import write_file

_INSTALLED = Path(str(resources.files("distill"))) / "configs"
SHIPPED = _INSTALLED if _INSTALLED.is_dir() else _INSTALLED.parent.parent / "configs"
"""The complete, runnable configurations that come with the package; a clone has them beside the package."""
BASE = "base"
"""Key of a file that names the configuration it starts from."""

Schema = TypeVar("Schema", Config, TeacherConfig)


def load_config(
    schema: type[Schema], source: str | Path | Mapping[str, Any], overrides: Sequence[str] | Mapping[str, Any] = ()
) -> Schema:
    """Merge defaults, a configuration with those that it is based on, and overrides.

    Args:
        schema: `Config` or `TeacherConfig`.
        source: a YAML file, the name of a shipped one, or the content of one as a dictionary.
        overrides: texts `key=value`, or a dictionary, nested or with dots in its keys.

    Raises:
        UserError: for a missing file, an unknown key (naming the nearest known), or a value that doesn't serve.
    """
    if not isinstance(source, str | Path | Mapping):
        raise UserError(f"{source!r} is no configuration; give a file, a shipped name, or a dictionary")
    merged: Any = OmegaConf.structured(schema)
    values: dict[str, Any] = dict(source) if isinstance(source, Mapping) else {}
    file = values.pop(BASE, None) if isinstance(source, Mapping) else source
    for path, given, texts in [] if file is None else _read_files(file):
        try:
            merged = OmegaConf.merge(merged, _checked(schema, given, texts))
        except (UserError, OmegaConfBaseException, TypeError) as error:
            raise UserError(f"{path}: {_explain(schema, error)}") from None
    for label, key, value, text in [*_read_overrides(values), *_read_overrides(overrides)]:
        try:
            _override(schema, merged, key, value, text)
        except (UserError, OmegaConfBaseException, TypeError, ValueError) as error:
            raise UserError(f"{label}: {_explain(schema, error, key)}") from None
    try:
        config: Schema = OmegaConf.to_object(merged)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(f"{file or 'the configuration'}: {_explain(schema, error)}") from None
    check_bounds(config)
    return config


def save_config(config: Config | TeacherConfig, path: Path) -> None:
    """Write the resolved configuration as YAML, atomically."""
    write_file(path, OmegaConf.to_yaml(OmegaConf.structured(config)))


def as_dict(config: Config | TeacherConfig) -> dict[str, Any]:
    """Return the configuration as plain dictionaries and lists."""
    return dataclasses.asdict(config)


def differences(before: Any, now: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the keys in which two configurations (or sections) differ, each with both values."""
    for each in dataclasses.fields(now):
        key, old, new = prefix + each.name, getattr(before, each.name), getattr(now, each.name)
        if dataclasses.is_dataclass(new):
            yield from differences(old, new, f"{key}.")
        elif old != new:
            yield key, old, new


def known_keys(schema: type, prefix: str = "") -> list[str]:
    """List every key of a schema with dots: sections, their fields, and those of entries of lists and dictionaries."""
    keys = []
    for name, annotation in field_types(schema).items():
        keys.append(prefix + name)
        section = section_of(annotation)
        if section is not None:
            keys += known_keys(section, f"{prefix}{name}{entry_name(annotation)}.")
    return keys


def _read_files(file: str | Path) -> list[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Read a file and those it is based on, the base first; each as values and as the texts that stand there.

    Raises:
        UserError: for a file that is missing or no YAML, or one that is based on itself.
    """
    read: list[tuple[Path, dict[str, Any], dict[str, Any]]] = []
    path: Path | None = _find(file)
    while path is not None:
        if path.resolve() in [earlier.resolve() for earlier, _, _ in read]:
            chain = " <- ".join(str(earlier) for earlier, _, _ in read)
            raise UserError(f"{path} is based on itself ({path} <- {chain}); mend base in one of them")
        given, texts = _read_yaml(path)
        base = None
        if isinstance(given, dict) and BASE in given:
            del given[BASE]
            base = texts.pop(BASE)
            if not isinstance(base, str):
                raise UserError(f"{path}: base={base}; give the name of a shipped configuration, or a file")
        read.append((path, given, texts))
        try:
            path = None if base is None else _find(base, path.parent)
        except UserError as error:
            raise UserError(f"{path}: base: {error}") from None
    return read[::-1]


def _find(file: str | Path, folder: Path | None = None) -> Path:
    """Find a file, from the folder of the one that names it, or a shipped configuration."""
    path = Path(file) if folder is None else folder / file
    if not path.exists() and Path(file).parent in (Path(), Path("configs")):  # found outside of the clone too
        name = Path(file).name
        path = SHIPPED / (name if name.endswith(".yaml") else f"{name}.yaml")
    if not path.is_file():
        names = ", ".join(sorted(shipped.stem for shipped in SHIPPED.glob("*.yaml")))
        raise UserError(f"{file}: no such configuration; give a YAML file or one of: {names}")
    return path


def _read_yaml(path: Path) -> tuple[Any, Any]:
    try:
        values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        return values, yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)
    except Exception as error:  # yaml has its own error classes, which omegaconf passes on
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from None


def _read_overrides(overrides: Sequence[str] | Mapping[str, Any]) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield each override as its label in messages, its key, its value, and the text that stands there."""
    if isinstance(overrides, Mapping):
        for key, value in _flat(overrides):
            yield f"{key}={value}", key, value, None
        return
    for item in overrides:
        key, equals, text = item.partition("=")
        if not equals or not key.strip("."):
            raise UserError(f"{item!r} is no override; write key=value, such as train.steps=1000")
        if not text.strip():
            raise UserError(f"{item} has no value; perhaps a variable isn't set: give one, or {key}=null")
        try:
            # Not resolved: `out=runs/${name}` means this configuration's name.
            read: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=False)
            raw = yaml.load(text, yaml.BaseLoader)
        except (yaml.YAMLError, OmegaConfBaseException) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{item}: the value can't be read ({reason}); put it in quotes") from None
        yield item, key, read["value"], raw


def _override(schema: type, merged: Any, key: str, value: Any, text: Any) -> None:
    """Set one key; a dictionary joins with what is there, a list replaces it."""
    if key == BASE:
        raise UserError("base stands in a configuration file; give another --config")
    if key == "teacher" and isinstance(value, list):
        key = "teachers"
    refuse_old_keys(nested(key, value))
    annotation = type_at(schema, key)
    if annotation is None:
        raise unknown_key(schema, key)
    value = _checked_value(schema, annotation, key, value, text)
    if "[" in key:
        check_index(merged, key)
        OmegaConf.update(merged, key, value)
    else:
        merged.merge_with(nested(key, value))


def check_index(merged: Any, key: str) -> None:
    """Refuse an entry that a list hasn't got; raises `UserError`."""
    for index in re.finditer(r"\[(\d*)\]", key):
        entries = OmegaConf.select(merged, key[: index.start()])
        if not index[1] or int(index[1]) >= len(entries):
            raise UserError(f"{key[: index.end()]}: the list has {len(entries)} entries, counted from 0")


def nested(key: str, value: Any) -> dict[str, Any]:
    """Write a value under a key with dots and indices as dictionaries and lists in each other."""
    for name in reversed(key.split(".")):
        base, bracket, _ = name.partition("[")
        value = {base: [value] if bracket else value}
    return value


def _checked(schema: type, given: Any, texts: Any) -> Any:
    """Check a file's keys, and return its values, with those of text fields as they stand in the file."""
    if isinstance(given, dict):
        if isinstance(given.get("teacher"), list):
            if "teachers" in given:
                raise UserError("teacher and teachers are both lists of teachers; give one of them")
            given["teachers"], texts["teachers"] = given.pop("teacher"), texts.pop("teacher")
        refuse_old_keys(given)
    return _checked_section(schema, schema, "", given, texts)


def _checked_section(schema: type, section: type, key: str, given: Any, texts: Any) -> Any:
    """Check the keys of a section and of what is in it; arguments as for `_checked_value`."""
    if isinstance(given, str) and given.startswith("${"):
        return given
    if section is LossSection and not isinstance(given, Mapping | list):
        given = {"weight": given}
    if not isinstance(given, Mapping):
        if isinstance(given, str) and "name" in field_types(section):
            raise UserError(f"{key} is a section; write {key}.name={given}")
        names = ", ".join(field_types(section))
        raise UserError(f"{key or 'a configuration'} is a section with the keys {names}; write them below it")
    checked = {}
    for name, value in given.items():
        inner = f"{key}.{name}" if key else str(name)
        annotation = field_types(section).get(str(name))
        if annotation is None:
            raise unknown_key(schema, inner)
        text = texts.get(name) if isinstance(texts, dict) else None
        checked[name] = _checked_value(schema, annotation, inner, value, text)
    return checked


def _checked_value(schema: type, annotation: Any, key: str, value: Any, text: Any) -> Any:
    """Return what a key is set to, with texts as they stand in the file.

    Args:
        schema: the whole configuration, to name the nearest key.
        annotation: what the key takes.
        key: the key, with dots.
        value: what YAML makes of the file.
        text: the same with every scalar as the text that stands there; None for values from Python.

    Raises:
        UserError: for an unknown key in it, or a section, list or single value in the place of another.
    """
    section, origin = section_of(annotation), get_origin(annotation)
    if isinstance(value, str) and value.startswith("${"):
        return value
    if origin is list:
        if not isinstance(value, list):
            raise UserError(f"{key} is a list; write its entries with a dash each, or as [...]")
        if section is not None:
            rows = text if isinstance(text, list) else [None] * len(value)
            return [
                _checked_section(schema, section, f"{key}[]", entry, row)
                for entry, row in zip(value, rows, strict=True)
            ]
        listed = text if isinstance(text, list) and annotation == list[str] else value
        return [_from_home(entry) for entry in listed]
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{key} holds entries by name; write them below it")
        if section is None:
            return value
        named = text if isinstance(text, dict) else {}
        return {
            name: _checked_section(schema, section, f"{key}.{name}", entry, named.get(name))
            for name, entry in value.items()
        }
    if section is not None:
        return _checked_section(schema, section, key, value, text)
    if is_text(annotation) and value is not None and isinstance(text, str):
        value = text  # `no`, `2024_11_25` and `1e5` are something else to YAML
    return _from_home(value)


def _from_home(value: Any) -> Any:
    """Return a path of the home folder as a shell would write it; it leaves the one in `out=~/runs` alone."""
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value


def unknown_key(schema: type, key: str) -> UserError:
    """Build the refusal of an unknown key, which names the nearest known one."""
    asked = re.sub(r"^(losses|guidance\.schedules)\.[^.]+", r"\1.NAME", key)
    if ":" in key:
        return UserError(f"unknown key {key!r}; a colon has a space behind it, as in {{path: train}}")
    near = process.extractOne(asked, [BASE, *known_keys(schema)])
    return UserError(f"unknown key {key!r}" + (f"; the nearest known one is {near[0]!r}" if near else ""))


def _explain(schema: type, error: Exception, key: str = "") -> str:
    """Write in one line what is wrong, of a value what its key takes."""
    if isinstance(error, UserError):
        return str(error)
    reason, about = str(error).splitlines()[0], str(getattr(error, "full_key", None) or key)
    annotation = type_at(schema, about) if about else None
    if isinstance(error, ValidationError) and annotation is not None and section_of(annotation) is None:
        return f"{about} takes {describe_type(annotation)}"
    return f"{about}: {reason}" if about and about != key else reason


def _flat(given: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of a nested dictionary under keys with dots, as YAML would have them."""
    for name, value in given.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{key}.")
        elif type(value).__module__ == "numpy":
            yield key, value.tolist()
        else:
            yield key, list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
