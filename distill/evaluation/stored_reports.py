"""Stored reports: report.json opened and checked, and the totals that follow from it. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.evaluation.metrics import Tally
from students.errors import UserError

REPORT = "report.json"
"""The file's name in the folder of a run or an evaluation."""


def load_report(path: Path) -> Mapping[str, Any]:
    """Read a report.json.

    Raises:
        UserError: when it is none.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; give the report.json of an evaluation") from None
    except ValueError:
        raise UserError(f"{path} is no JSON; give the report.json of an evaluation") from None
    readers = report.get("readers") if isinstance(report, dict) else None
    if isinstance(readers, list) and all(isinstance(reader, dict) and "name" in reader for reader in readers):
        return dict(report)
    raise UserError(f"{path} is no report of an evaluation; give the report.json of one")


def find_reports(given: Sequence[str]) -> list[Path]:
    """Return the report of each, see `find_report`; raises `UserError` too where two are one file."""
    found: list[Path] = []
    for each in given:
        report = find_report(each)
        if any(report.resolve() == earlier.resolve() for earlier in found):
            raise UserError(f"{each} is given twice; name each once")
        found.append(report)
    return found


def find_report(given: str | Path) -> Path:
    """Return the report of a run folder, of an evaluation's folder, or the file itself.

    Raises:
        UserError: when there is none.
    """
    path = Path(given)
    if not path.is_dir():
        return path
    if (path / REPORT).is_file():
        return path / REPORT
    if (path / "config.yaml").is_file():
        raise UserError(f"{path} has no {REPORT}: the run is not finished; continue it with --resume auto")
    raise UserError(f"{path} has no {REPORT}; give the folder of a finished run, or the --out of an evaluation")


def averaged_sets(report: Mapping[str, Any]) -> list[str]:
    """List the sets that averages and pairs of a report are over."""
    return list(report.get("averaged_sets") or report["readers"][0]["benchmarks"])


def subject(report: Mapping[str, Any]) -> Mapping[str, Any]:
    """Choose the reader that a report is about: the first student, else the first, of those that read openly if any."""
    readers = report["readers"]
    asked = [reader for reader in readers if reader["reading"] == "open"] or readers
    return next((reader for reader in asked if reader["role"] == "student"), asked[0])


def tally_of(entry: Mapping[str, Any]) -> Tally:
    """Return the words and hits of one set of a reader."""
    return Tally(entry["words"], entry["hits"])


def total(report: Mapping[str, Any], reader: Mapping[str, Any]) -> Tally:
    """Count a reader's words and hits over the averaged sets."""
    return sum((tally_of(reader["benchmarks"][name]) for name in averaged_sets(report)), start=Tally())
