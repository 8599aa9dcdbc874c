"""Jinja2 templates filled: foreign text is escaped, the style is inside, no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from distill.evaluation.page.svg import SERIES, inline

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Chart:
    """A picture of the page, with its words."""

    title: str
    caption: str
    svg: Markup
    """Made by us: what is foreign in it has been escaped."""
    wide: bool = False
    """Whether it takes the whole width."""
    table: Table | None = None
    """Its numbers."""


@dataclass(frozen=True)
class Table:
    """A table: columns of text are aligned left, those of numbers right."""

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    texts: int = 1
    """How many of the first columns are text."""


def chart(
    figure: Figure, title: str, caption: str = "", *, wide: bool = False, table: Table | None = None
) -> Chart:  # fmt: skip
    """Put a figure into a page."""
    return Chart(title, caption, Markup(inline(figure, title)), wide, table)


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template.

    Args:
        template: name of the file in `templates`.
        values: what it shows.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"count": lambda number: f"{number:,}", "points": lambda number: f"{number:+.2f}"}
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        style=Markup(style),
        shapes=SHAPES, colours=len(SERIES), **values,
    )  # fmt: skip


SHAPES = (
    "M6 1a5 5 0 1 0 0 10a5 5 0 1 0 0-10z", "M1.5 1.5h9v9h-9z", "M6 1l5 9.5H1z", "M6 .5l5.5 5.5L6 11.5.5 6z",
    "M6 11l5-9.5H1z", "M4 1h4v3h3v4H8v3H4V8H1V4h3z", "M3 1l3 3 3-3 2 2-3 3 3 3-2 2-3-3-3 3-2-2 3-3-3-3z",
    "M6 .8l5.2 3.8-2 6.1H2.8l-2-6.1z",
)  # fmt: skip
"""The markers of the charts as paths in a square of 12, in the same order."""
