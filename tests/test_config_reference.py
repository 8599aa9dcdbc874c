"""docs/reference/config.md says what distill/config.py says: every key, its default, its line of documentation.

After a change to the configuration: `python -m tests.test_config_reference` writes the tables anew.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any

from distill import config

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "config.md"
MARK = "<!-- tables: written by tests/test_config_reference.py -->\n"


def documentation(section: type) -> dict[str, str]:
    """The text under each field of a dataclass."""
    lines: dict[str, str] = {}
    body = ast.parse(inspect.getsource(section)).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            lines[field.target.id] = ast.literal_eval(text.value)
    return lines


def shown(value: Any) -> str:
    """A default as it is written in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return "[]" if isinstance(value, list) else str(value) or '""'


def tables(section: type, prefix: str, title: str, done: set[str]) -> list[str]:
    """One table of a section's own keys, then those of the sections in it."""
    texts, made = documentation(section), section()
    rows, below = [], []
    for field in dataclasses.fields(section):
        value, key = getattr(made, field.name), prefix + field.name
        assert field.name in texts, f"{section.__name__}.{field.name} has no line of documentation"
        if dataclasses.is_dataclass(value):
            below.append((type(value), key, texts[field.name]))
        else:
            rows.append(f"| `{key}` | `{shown(value)}` | {texts[field.name]} |")
    if not rows:  # sections alone: all of their keys in one table
        rows = [line for kind, key, _ in below for line in tables(kind, f"{key}.", "", set())[4:-1]]
        below = []
    lines = [f"### {title}", "", "| key | default | meaning |", "|---|---|---|", *rows, ""] if rows else []
    for kind, key, text in below:
        if key not in done:
            done.add(key)
            lines += tables(kind, f"{key}.", f"{key}: {text[0].lower()}{text[1:].rstrip('.')}", done)
    return lines


def generated() -> str:
    """All tables: those of a distillation, the entries of data.train, and what a teacher's training has besides."""
    done: set[str] = set()
    source = tables(config.SourceSection, "", "An entry of data.train", set())
    lines = ["## Distillation", "", *tables(config.Config, "", "The run", done), *source]
    lines += ["## Training a teacher", "", "The sections `data`, `optim` and `train` are those above.", ""]
    lines += tables(config.TeacherConfig, "", "The run", done - {"contrastive"})
    return "\n".join(lines)


def test_reference_page_is_true() -> None:
    assert PAGE.read_text(encoding="utf-8").split(MARK)[1] == generated(), "python -m tests.test_config_reference"


def test_every_key_is_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for schema in (config.Config, config.TeacherConfig):
        for key in config.known_keys(schema):
            assert f"`{key}`" in text or f"### {key}:" in text or f"`{key}." in text, key


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").split(MARK)[0] + MARK + generated(), encoding="utf-8")
