"""bench.json: what was measured, where and with what."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from distill.benchmarking.measuring import Row, Setup
from distill.evaluation.report import describe_machine, versions
from students.files import write_file

SCHEMA = 1


def build_report(rows: Sequence[Row], setup: Setup, command: str) -> dict[str, Any]:
    """Give the rows as JSON holds them."""
    return {
        "schema": SCHEMA, "command": command, "machine": describe_machine(setup.device), "versions": versions(),
        "rows": [dataclasses.asdict(one) for one in rows],
    }  # fmt: skip


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write bench.json, whole or not at all."""
    write_file(path, json.dumps(report, indent=1) + "\n")


def print_table(name: str, rows: Sequence[Row], console: Console) -> None:
    """Print one table: a column for each thing that its cases differ in."""
    keys = list(dict.fromkeys(key for one in rows for key in one.case))
    table = Table(title=name, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for key in keys:
        table.add_column(key)
    for heading in ("median", "low", "high", "unit"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    for one in rows:
        shown = [f"{value:.4g}" for value in (one.median, one.low, one.high)]
        table.add_row(*(str(one.case.get(key, "")) for key in keys), *shown, one.unit)
    console.print(table)
