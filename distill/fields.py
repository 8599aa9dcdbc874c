"""Fields of configuration sections: their types, bounds and documentation, read from the dataclasses themselves.

A field's bounds are its metadata: `least`, `most` (inclusive), `above`, `below` (exclusive). Its documentation is the
string under it.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import math
import re
import textwrap
import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from students.errors import UserError

BOUNDS = {
    "least": ("is too small; give {} or more", lambda value, bound: value >= bound),
    "most": ("is too large; give {} or less", lambda value, bound: value <= bound),
    "above": ("is too small; give more than {}", lambda value, bound: value > bound),
    "below": ("is too large; give less than {}", lambda value, bound: value < bound),
}
"""What is wrong about a value beyond each kind of bound, and the test for it."""
INDEX = re.compile(r"\[\d*\]$")


def check_bounds(section: Any, prefix: str = "") -> None:
    """Check every field of a section, and of the sections, lists and dictionaries in it, against its bounds.

    Raises:
        UserError: naming the first key that is out of bounds, or no finite number, and what would work.
    """
    for each in dataclasses.fields(section):
        key, value = prefix + each.name, getattr(section, each.name)
        for inner_key, inner in inner_sections(key, value):
            check_bounds(inner, f"{inner_key}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}={value} is no finite number; give {describe_bounds(each) or 'one'}")
        for kind, bound in each.metadata.items():
            wrong, holds = BOUNDS[kind]
            if value is not None and not holds(value, bound):
                raise UserError(f"{key}={value} {wrong.format(bound)}")


def inner_sections(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the sections that a field's value is or holds, each with its key."""
    if dataclasses.is_dataclass(value):
        yield key, value
    entries = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for name, entry in entries:
        if dataclasses.is_dataclass(entry):
            yield (f"{key}[{name}]" if isinstance(value, list) else f"{key}.{name}"), entry


@functools.cache
def field_types(section: type) -> dict[str, Any]:
    """Resolve the annotations of a section's fields."""
    return get_type_hints(section)


@functools.cache
def documentation(section: type) -> dict[str, str]:
    """Read the text under each field of a section, as one line: it becomes a cell of a table."""
    texts: dict[str, str] = {}
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0]
    if not isinstance(body, ast.ClassDef):
        raise TypeError(f"{section!r} is no class")
    for statement, text in zip(body.body, body.body[1:], strict=False):
        target = statement.target if isinstance(statement, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and isinstance(text, ast.Expr):
            texts[target.id] = " ".join(ast.literal_eval(text.value).split())
    return texts


def without_none(annotation: Any) -> tuple[Any, ...]:
    """List the alternatives of an annotation other than None."""
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(each for each in get_args(annotation) if each is not type(None))
    return (annotation,)


def is_text(annotation: Any) -> bool:
    """Tell whether a field takes text: `str`, choices of texts, or one of them or None."""
    return all(
        each is str or (get_origin(each) is Literal and all(isinstance(choice, str) for choice in get_args(each)))
        for each in without_none(annotation)
    )


def section_of(annotation: Any) -> type | None:
    """Return the section that a field is, or whose entries it lists or names; None for a single value."""
    for each in without_none(annotation):
        inner = get_args(each)[-1] if get_origin(each) in (list, dict) else each
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            return inner
    return None


def entry_name(annotation: Any) -> str:
    """Write how the entries of a list or dictionary of sections are addressed: `[]`, `.NAME`, or nothing for others."""
    origin = get_origin(annotation)
    return "[]" if origin is list else ".NAME" if origin is dict else ""


def type_at(schema: type, key: str) -> Any:
    """Return the annotation of a key with dots and indices (`data.train[0].path`); None for an unknown key."""
    annotation: Any = schema
    for name in key.split("."):
        base = INDEX.sub("", name)
        if get_origin(annotation) is dict:  # an entry's name
            annotation = get_args(annotation)[1]
        elif isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            annotation = field_types(annotation).get(base)
        else:
            return Any if annotation is Any else None
        if base != name:
            annotation = get_args(annotation)[0] if get_origin(annotation) is list else None
        if annotation is None:
            return None
    return annotation


def describe_type(annotation: Any) -> str:
    """Describe what a field takes, for people."""
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}
    described = []
    for each in without_none(annotation):
        origin, inner = get_origin(each), get_args(each)
        if origin is Literal:
            described.append("one of " + ", ".join(str(choice) for choice in inner))
        elif origin is list:
            described.append(f"list ({describe_type(inner[0])})")
        elif origin is dict:
            described.append(f"entries by name ({describe_type(inner[1])})")
        else:
            described.append(names.get(each, "section"))
    return " or ".join([*described, *(["null"] if type(None) in get_args(annotation) else [])])


def describe_bounds(each: dataclasses.Field[Any]) -> str:
    """Describe a field's bounds, for people; empty without any."""
    words = {"least": "at least {}", "most": "at most {}", "above": "above {}", "below": "below {}"}
    return ", ".join(words[kind].format(bound) for kind, bound in each.metadata.items())


def as_yaml(value: Any) -> str:
    """Write a value as YAML has it, on one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "[" + ", ".join(as_yaml(entry) for entry in value) + "]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {as_yaml(entry)}" for name, entry in value.items()) + "}"
    return str(value) or '""'
