"""docs/reference/config.md says what the configuration's dataclasses say: every key, default, bounds, documentation.

After a change to the configuration: `python -m tests.test_config_reference` writes the tables anew.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from distill.config import known_keys
from distill.data.sections import DataSection, SourceSection
from distill.fields import as_yaml, describe_bounds, documentation, field_types, section_of
from distill.schema import Config, TeacherConfig
from distill.training.sections import GuidanceSection, LossSection, ScheduleSection

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "config.md"
MARK = "<!-- tables: written by tests/test_config_reference.py -->\n"
ENTRIES = {
    SourceSection: "An entry of data.train",
    LossSection: "An entry of losses",
    ScheduleSection: "An entry of guidance.schedules",
}
"""Sections of which there are lists or dictionaries, with tables of their own."""


def tables(section: type, prefix: str, title: str, done: set[str]) -> list[str]:
    """One table of a section's own keys, then those of the sections in it."""
    texts, defaults = documentation(section), section()
    rows, below = [], []
    for field in dataclasses.fields(section):
        value, key = getattr(defaults, field.name), prefix + field.name
        assert field.name in texts, f"{section.__name__}.{field.name} has no line of documentation"
        if dataclasses.is_dataclass(value):
            below.append((type(value), key, texts[field.name]))
        else:
            bounds = describe_bounds(field)
            text = texts[field.name].rstrip(".") + (f" ({bounds})." if bounds else ".")
            rows.append(f"| `{key}` | `{as_yaml(value)}` | {text} |")
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
    """All tables: those of a distillation, entries of lists, and what a teacher's training has besides."""
    done: set[str] = set()
    entries = [line for kind, title in ENTRIES.items() for line in tables(kind, "", title, set())]
    lines = ["## Distillation", "", *tables(Config, "", "The run", done), *entries]
    lines += ["## Training a teacher", "", "The sections `data`, `optim` and `train` are those above.", ""]
    lines += tables(TeacherConfig, "", "The run", done - {"contrastive"})
    return "\n".join(lines)


def test_reference_page_is_true() -> None:
    assert PAGE.read_text(encoding="utf-8").split(MARK)[1] == generated(), "python -m tests.test_config_reference"


def test_every_key_is_documented() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for schema in (Config, TeacherConfig):
        for key in (key for key in known_keys(schema) if "[]" not in key and "NAME" not in key):
            assert f"`{key}`" in text or f"### {key}:" in text or f"`{key}." in text, key


def test_entries_have_tables_of_their_own() -> None:
    for kind, holder in zip(ENTRIES, (DataSection, Config, GuidanceSection), strict=True):
        assert kind in map(section_of, field_types(holder).values())


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text(encoding="utf-8").split(MARK)[0] + MARK + generated(), encoding="utf-8")
