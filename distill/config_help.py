"""`--help-config [KEY]`: explain the keys of a configuration in the terminal."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from distill.config import nested, unknown_key
from distill.fields import (
    as_yaml,
    describe_bounds,
    describe_type,
    documentation,
    entry_name,
    field_types,
    section_of,
    type_at,
)
from distill.old_keys import refuse_old_keys


def explain(schema: type, key: str = "") -> str:
    """Explain a key: what it means, what it takes, its default; of a section, list its keys.

    Raises:
        UserError: for an unknown key, naming the nearest, and for one of version 0.1, naming that of now.
    """
    parent, _, name = key.rpartition(".")
    holder = section_of(type_at(schema, parent)) if parent else schema
    annotation = type_at(schema, key) if key else schema
    if annotation is None or holder is None:
        refuse_old_keys(nested(key, {}))
        raise unknown_key(schema, key)
    base = name.partition("[")[0]
    each = next((each for each in dataclasses.fields(holder) if each.name == base), None)
    section = section_of(annotation)
    if section is not None:
        text = documentation(holder).get(base) or (section.__doc__ or "")
        entry = entry_name(annotation)
        return "\n".join([*wrapped(f"{key}: {text}" if key else text), *listing(section, f"{key}{entry}.".lstrip("."))])
    if each is None:  # an entry that plugins give a meaning to
        return f"{key}: {describe_type(annotation)}"
    takes = ", ".join(filter(None, [describe_type(annotation), describe_bounds(each)]))
    about = [*wrapped(documentation(holder)[base], "  "), *wrapped(f"takes {takes}", "  ")]
    return "\n".join([f"{key}: {as_yaml(getattr(holder(), each.name))}", *about])


def listing(section: type, prefix: str) -> list[str]:
    """List the keys of a section with their defaults and documentation, a line or more each."""
    defaults, texts = section(), documentation(section)
    rows = []
    for name, annotation in field_types(section).items():
        default = "..." if dataclasses.is_dataclass(annotation) else as_yaml(getattr(defaults, name))
        rows.append((f"{prefix}{name}: {default}", texts[name]))
    width = min(max(len(key) for key, _ in rows), 48) + 2
    lines = []
    for key, text in rows:
        first, *more = textwrap.wrap(text, max(columns() - width - 2, 30))
        lines.append(f"  {key:{width}}{first}")
        lines += [" " * (width + 2) + line for line in more]
    return lines


def wrapped(text: str, indent: str = "") -> list[str]:
    """Wrap a text to the terminal's width."""
    return textwrap.wrap(text, columns(), initial_indent=indent, subsequent_indent=indent)


def columns() -> int:
    """Return the terminal's width, at most 120."""
    return min(shutil.get_terminal_size().columns, 120)


class HelpConfig(argparse.Action):
    """The argument `--help-config [KEY]`, which explains and ends the command as `--help` does.

    Args:
        schema: the class of the configuration.
    """

    def __init__(self, option_strings: Sequence[str], dest: str, schema: type, **_: Any) -> None:
        super().__init__(
            option_strings, dest, nargs="?", const="", default=argparse.SUPPRESS, metavar="KEY",
            help="explain a key of the configuration, or list those of a section (or all sections), and stop",
        )  # fmt: skip
        self.schema = schema

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: str | None = None) -> None:
        """Print the explanation and end with exit code 0."""
        print(explain(self.schema, str(values or "").rstrip(".")))
        parser.exit()
