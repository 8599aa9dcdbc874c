"""The comparison of runs as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_comparison(figures: Mapping[str, Any], console: Console) -> None:
    """Print the figures of compare.json: accuracies, differences, what to know, the verdict."""
    groups = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("runs", "seeds", "word accuracy, %", "95% interval", "over", "ms a word"):
        groups.add_column(title, overflow="fold", justify="left" if title in ("runs", "seeds", "over") else "right")
    for group in figures["groups"]:
        accuracy = group["accuracy"]
        groups.add_row(
            Text(group["name"]), ", ".join(map(str, group["seeds"])), f"{accuracy['value']:.2f}",
            interval_of(accuracy, ".1f"), accuracy["over"], f"{group['ms_per_word']:.1f}",
        )  # fmt: skip
    console.print(groups)
    compared = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("runs", "against", "difference, points", "95% interval", "over"):
        compared.add_column(title, overflow="fold", justify="left" if title in ("runs", "against", "over") else "right")
    for each in figures["differences"]:
        compared.add_row(
            Text(each["name"]), Text(each["against"]), f"{each['value']:+.2f}", interval_of(each, "+.2f"), each["over"]
        )
    console.print(compared)
    for line in (*figures.get("warnings", ()), figures["verdict"]):
        console.print(Text(line), soft_wrap=True)


def interval_of(estimate: Mapping[str, Any], form: str) -> str:
    """Format an interval; a dash for none."""
    return "–" if estimate["interval"] is None else " to ".join(format(bound, form) for bound in estimate["interval"])
