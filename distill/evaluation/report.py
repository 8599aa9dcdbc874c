"""report.json: a comparison as plain data, in the form of docs/reference/report-json.md."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.evaluation.agreement import Agreement, Pair
from distill.evaluation.compare import Comparison, ReaderResult
from distill.evaluation.machine import describe_machine, versions
from distill.evaluation.metrics import Tally, percent
from distill.evaluation.overlap_check import OverlapCheck
from distill.evaluation.tables import to_markdown
from students.errors import UserError
from students.files import write_file

SCHEMA = 1
REPORT, TABLE = "report.json", "report.md"


def build_report(
    comparison: Comparison,
    command: str | Sequence[str],
    config: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
    overlaps: OverlapCheck | None = None,
) -> dict[str, Any]:
    """Build the report of a comparison.

    Beside the keys that are always there, `notes` says what is unusual about the sets, `averaged_sets` names the sets
    that averages and pairs are over when those aren't all, `overlaps` stands when the overlap check ran, `unlike_pairs`
    where students read openly and teachers choose from a lexicon, a set of which only some words were read has
    `partial`, and one read by closed lexicon the size of the `lexicon`.

    Args:
        comparison: what came out.
        command: what was typed.
        config: the resolved configuration, of the run or of the evaluation.
        seconds: wall time by part; reading times are added.
        overlaps: what the overlap check found.
    """
    reading = {f"read {reader.name}": round(reader.seconds, 2) for reader in comparison.readers}
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "command": command if isinstance(command, str) else shlex.join(command),
        "config": None if config is None else dict(config),
        "machine": describe_machine(comparison.device),
        "versions": versions(),
        "seconds": {**reading, **{name: round(value, 2) for name, value in (seconds or {}).items()}},
        "readers": [reader_entry(reader, comparison.averaged) for reader in comparison.readers],
        "pairs": [pair_entry(pair) for pair in comparison.pairs],
    }
    if comparison.unlike:
        report["unlike_pairs"] = [pair_entry(pair) for pair in comparison.unlike]
    notes = [benchmark.note for benchmark in comparison.benchmarks if benchmark.note]
    if notes:
        report["notes"] = notes
    if len(comparison.averaged) != len(comparison.benchmarks):
        report["averaged_sets"] = list(comparison.averaged)
    if overlaps is not None:
        report["overlaps"] = {"against": overlaps.against, "words": len(overlaps.found), "found": list(overlaps.found)}
    return report


def reader_entry(reader: ReaderResult, averaged: Sequence[str]) -> dict[str, Any]:
    """Give a reader's part of the report; averages are over the sets `averaged`."""
    benchmarks: dict[str, dict[str, Any]] = {}
    for name, result in reader.sets.items():
        low, high = result.tally.interval
        benchmarks[name] = {
            "words": result.tally.words, "hits": result.tally.hits, "accuracy": round(result.tally.accuracy, 4),
            "interval": [round(low, 4), round(high, 4)], "one_minus_ned": round(result.tally.one_minus_ned, 4),
        }  # fmt: skip
        if result.lexicon is not None:
            benchmarks[name]["lexicon"] = result.lexicon
        if result.partial:
            benchmarks[name]["partial"] = True
    counted = [reader.sets[name].tally for name in averaged]
    whole = sum(counted, Tally())
    return {
        "name": reader.name, "role": reader.role, "reading": reader.reading, "params": reader.params,
        "charset": reader.charset, "ms_per_word": round(reader.ms_per_word, 3), "benchmarks": benchmarks,
        "average_by_word": round(percent(whole.hits, whole.words), 4),
        "average_by_set": round(sum(each.accuracy for each in counted) / len(counted), 4),
    }  # fmt: skip


def pair_entry(pair: Pair) -> dict[str, Any]:
    """Give a pair's part of the report; `p` is left out where the two differ in how they read."""
    entry = {"a": pair.a, "b": pair.b, **agreement_entry(pair.total)}
    if pair.p is not None:
        entry["p"] = pair.p
    return entry | {"benchmarks": {name: agreement_entry(agreement) for name, agreement in pair.sets.items()}}


def agreement_entry(agreement: Agreement) -> dict[str, int]:
    """Give the counts of two readers on the same words."""
    return {
        "words": agreement.words, "only_a": agreement.only_a, "only_b": agreement.only_b, "both": agreement.both,
        "neither": agreement.neither,
    }  # fmt: skip


def check_output(folder: str | Path, overwrite: bool, report: str = REPORT) -> Path:
    """Refuse an output folder that exists, before any work; with `overwrite`, one that holds no `report`.

    Raises:
        UserError: see above.
    """
    folder = Path(folder)
    if not folder.exists():
        blocker = next(parent for parent in folder.absolute().parents if parent.exists())
        if not blocker.is_dir() or not os.access(blocker, os.W_OK):
            raise UserError(f"{folder} can't be made: {blocker} is no folder to write into; give another --out")
        return folder
    if not overwrite:
        raise UserError(f"{folder} exists; give another --out, or --overwrite to replace the report in it")
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / report).is_file()):
        raise UserError(f"{folder} exists and holds no {report}, so it is not overwritten; give another --out")
    return folder


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write report.json and report.md into a folder, each beside its place and renamed."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {REPORT: json.dumps(report, indent=2, allow_nan=False) + "\n", TABLE: to_markdown(report)}
    for name, text in texts.items():
        write_file(folder / name, text)
