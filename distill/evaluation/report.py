"""report.json: a comparison as plain data, in the form of docs/reference/report-json.md, and where it was computed."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from distill.evaluation.benchmarks import OverlapCheck
from distill.evaluation.compare import Comparison, ReaderResult
from distill.evaluation.metrics import Agreement, Pair, Tally, percent
from distill.evaluation.stored_reports import REPORT
from distill.evaluation.tables import to_markdown
from distill.evaluation.verdict import verdict
from students.files import check_output, write_file

SCHEMA = 2
TABLE = "report.md"
PACKAGES = ("symdistill", "torch", "timm", "open_clip_torch", "onnxruntime", "Pillow", "rapidfuzz")
"""Packages whose versions can change a number."""


def build_report(
    comparison: Comparison,
    command: str | Sequence[str],
    config: Mapping[str, Any] | None = None,
    seconds: Mapping[str, float] | None = None,
    overlaps: OverlapCheck | None = None,
    curves: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
) -> dict[str, Any]:
    """Build the report of a comparison.

    Beside the keys that are always there, `warnings` says what is unusual about sets and readers, `averaged_sets` names
    the sets that averages and pairs are over when those aren't all, `overlaps` is there when the overlap check ran,
    `unlike_pairs` where students read openly and teachers choose from a lexicon; a set of which only some words were
    read has `partial`, one read by closed lexicon the size of the `lexicon`, and one with words that the reader can't
    write their number, `unreadable`; where the alphabet has the space, `accuracy_without_spaces` counts those right
    too that differ in spaces only.

    Args:
        comparison: the result of `compare`.
        command: the command line.
        config: the resolved configuration, of the run or of the evaluation.
        seconds: wall time by part; reading times are added.
        overlaps: the result of the overlap check.
        curves: validations of the readers that were trained, by name (`distill.evaluation.curves`).
    """
    spaces = " " in comparison.charset
    reading = {f"read {reader.name}": round(reader.seconds, 2) for reader in comparison.readers}
    report: dict[str, Any] = {
        "command": command if isinstance(command, str) else shlex.join(command),
        "config": None if config is None else dict(config),
        "machine": describe_machine(comparison.device),
        "versions": versions(),
        "charset": comparison.charset,
        "seconds": {**reading, **{name: round(value, 2) for name, value in (seconds or {}).items()}},
        "readers": [reader_entry(reader, comparison.averaged, spaces) for reader in comparison.readers],
        "pairs": [pair_entry(pair) for pair in comparison.pairs],
    }
    if curves:
        report["curves"] = {name: [dict(row) for row in rows] for name, rows in curves.items()}
    if comparison.unlike:
        report["unlike_pairs"] = [pair_entry(pair) for pair in comparison.unlike]
    warnings = [*(benchmark.note for benchmark in comparison.benchmarks if benchmark.note), *comparison.warnings]
    if warnings:
        report["warnings"] = warnings
    if len(comparison.averaged) != len(comparison.benchmarks):
        report["averaged_sets"] = list(comparison.averaged)
    if overlaps is not None:
        lines = list(overlaps.overlaps)
        report["overlaps"] = {"against": overlaps.against, "words": len(lines), "found": lines}
    return {"schema": SCHEMA, "verdict": verdict(report), **report}


def reader_entry(reader: ReaderResult, averaged: Sequence[str], spaces: bool) -> dict[str, Any]:
    """Return a reader's part of the report; averages are over the sets `averaged`, `spaces` tells if they count."""
    benchmarks: dict[str, dict[str, Any]] = {}
    for name, result in reader.sets.items():
        low, high = result.tally.interval
        benchmarks[name] = {
            "words": result.tally.words, "hits": result.tally.hits, "accuracy": round(result.tally.accuracy, 4),
            "interval": [round(low, 4), round(high, 4)], "one_minus_ned": round(result.tally.one_minus_ned, 4),
        }  # fmt: skip
        if spaces:
            benchmarks[name]["accuracy_without_spaces"] = round(result.tally.accuracy_without_spaces, 4)
        if result.lexicon is not None:
            benchmarks[name]["lexicon"] = result.lexicon
        if result.partial:
            benchmarks[name]["partial"] = True
        if result.unreadable:
            benchmarks[name]["unreadable"] = result.unreadable
    tallies = [reader.sets[name].tally for name in averaged]
    total = sum(tallies, Tally())
    return {
        "name": reader.name, "role": reader.role, "reading": reader.reading, "params": reader.params,
        "charset": reader.charset, **({"language_model": reader.language_model} if reader.language_model else {}),
        "ms_per_word": round(reader.ms_per_word, 3), "benchmarks": benchmarks,
        "average_by_word": round(percent(total.hits, total.words), 4),
        "average_by_set": round(sum(each.accuracy for each in tallies) / len(tallies), 4),
    }  # fmt: skip


def pair_entry(pair: Pair) -> dict[str, Any]:
    """Return a pair's part of the report; test and difference are left out where the two differ in how they read."""
    entry = {"a": pair.a, "b": pair.b, **agreement_entry(pair.total)}
    if pair.p is not None:
        low, high = pair.total.interval
        entry |= {"p": pair.p, "difference": round(pair.total.difference, 4)}
        entry["interval"] = [round(low, 4), round(high, 4)]
    return entry | {"benchmarks": {name: agreement_entry(agreement) for name, agreement in pair.sets.items()}}


def agreement_entry(agreement: Agreement) -> dict[str, int]:
    """Return the counts of two readers on the same words."""
    return {
        "words": agreement.words, "only_a": agreement.only_a, "only_b": agreement.only_b, "both": agreement.both,
        "neither": agreement.neither,
    }  # fmt: skip


def describe_machine(device: str = "cpu") -> dict[str, Any]:
    """Return platform, processor, usable cores, threads, and the device that reads."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if device.startswith("cuda") else None
    return {
        "platform": f"{platform.system()} {platform.machine()}", "processor": processor_name(), "cores": usable,
        "threads": torch.get_num_threads(), "device": f"{device} ({gpu})" if gpu else device,
    }  # fmt: skip


def processor_name() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return model or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that are installed."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    installed["torch"] = torch.__version__
    return installed


def check_report_folder(folder: str | Path, overwrite: bool, report: str = REPORT) -> Path:
    """Refuse an output folder that exists, before any work; with `overwrite`, one without a `report`, or a run's.

    Raises:
        UserError: naming what is in the way.
    """

    def replaceable(existing: Path) -> bool:
        return (existing / report).is_file() and not (existing / "config.yaml").is_file()

    check_output(Path(folder), overwrite, f"a report ({report})", replaceable)
    return Path(folder)


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write report.json and report.md into a folder, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {REPORT: json.dumps(report, indent=2, allow_nan=False) + "\n", TABLE: to_markdown(report)}
    for name, text in texts.items():
        write_file(folder / name, text)
