"""Evaluate readers: open sets and readers, search training words for test words, compare, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rich.console import Console

from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.readers import WordReader, choose_device, wrap_reader
from distill.evaluation.benchmarks import check_overlap, find_training, open_benchmarks
from distill.evaluation.compare import Comparison, compare
from distill.evaluation.gallery import write_galleries
from distill.evaluation.lexicon import open_reader
from distill.evaluation.page.report_page import write_page
from distill.evaluation.report import build_report, check_report_folder, write_report
from students.charset import Charset
from students.errors import UserError
from students.reading import Reader
from teachers.peers import Peer

ReaderLike: TypeAlias = str | Path | Reader | OnnxReader | Peer
"""A reader, or what `symdistill.load` opens."""


@dataclass(frozen=True)
class Evaluation:
    """The outcome of `run_evaluation`."""

    report: dict[str, Any]
    """See docs/reference/report-json.md."""
    comparison: Comparison
    """Predictions and counts behind the report."""


def evaluate(
    readers: ReaderLike | Sequence[ReaderLike] | Mapping[str, ReaderLike],
    data: str | Path,
    *,
    teachers: Sequence[str] = (),
    peers: Sequence[str] = (),
    benchmarks: str = "six",
    charset: str = "36",
    limit: int | None = None,
    max_length: int = 25,
    overlap_check: bool = True,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    out: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Read the same words with every reader, and compare.

    Args:
        readers: readers or their names, as for `symdistill.load`; a dictionary gives them other names in the report.
        data: folder of benchmarks (docs/reference/data-layout.md), or one set.
        teachers: names of teachers to compare with; a CLIP chooses from a closed lexicon.
        peers: readers of other programs to compare with: `rapidocr`, `tesseract`, ONNX files (docs/howto/peers.md).
        benchmarks: `six`, `all`, or names with commas; a single set is read whatever its name.
        charset: characters that are scored: 36, 62, 94, 95 (with spaces), or a text file.
        limit: read so many words of each set only.
        max_length: longest label in characters; longer ones are left out.
        overlap_check: search the training words beside `data` for the test words.
        device: where sets are read.
        out: folder to write report.html, report.json, report.md, readings.jsonl and sheets of words to.
        overwrite: replace an earlier report there.

    Returns:
        The report (docs/reference/report-json.md).

    Raises:
        UserError: for data, readers or an `out` that cannot be used.
    """
    scored = Charset.load(charset)
    if isinstance(readers, Mapping):
        opened = [_open(reader, name) for name, reader in readers.items()]
    elif isinstance(readers, Sequence) and not isinstance(readers, str):
        opened = [_open(reader) for reader in readers]
    else:
        opened = [_open(readers)]
    names = [reader.name for reader in opened]
    if again := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two readers are called {again!r}; give a dictionary with a name for each")
    opened += [open_reader(name, "teacher", charset=scored) for name in teachers]
    opened += [open_reader(name, "peer") for name in peers]
    return run_evaluation(
        opened, data, scored, benchmarks=benchmarks, limit=limit, max_length=max_length,
        overlap_check=overlap_check, device=device, out=out, overwrite=overwrite, command="symdistill.evaluate",
    ).report  # fmt: skip


def _open(reader: ReaderLike, name: str | None = None) -> WordReader:
    opened = open_reader(str(reader)) if isinstance(reader, str | Path) else wrap_reader(reader)
    opened.name = name or opened.name
    return opened


def run_evaluation(
    readers: Sequence[WordReader] | Callable[[], Sequence[WordReader]],
    data: str | Path,
    charset: Charset,
    *,
    benchmarks: str = "six",
    limit: int | None = None,
    max_length: int = 25,
    overlap_check: bool = True,
    against: str | Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    command: str | Sequence[str] = "",
    config: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Evaluation:
    """Read every set with every reader, compare, and write the report where that is asked for.

    Args:
        readers: with names that differ; or a function that opens them, called when the data are known to be right.
        data: a folder of benchmarks, or one set.
        charset: characters that are scored.
        benchmarks: `six`, `all`, or names with commas.
        limit: read so many words of each set only.
        max_length: longest label in characters; longer ones are left out.
        overlap_check: search training words for test words.
        against: the training words; None takes those beside the test words, when there are any.
        device: where sets are read.
        threads: CPU threads of ONNX readers.
        out: folder for report.html, report.json, report.md, readings.jsonl and sheets of words.
        overwrite: replace an earlier report there.
        command: command line, for the report.
        config: arguments, for the report.
        console: where progress goes.

    Raises:
        UserError: for missing data, readers that cannot be opened, or an `out` that may not be replaced.
    """
    for name, value in {"limit": limit, "max_length": max_length}.items():
        if value is not None and value < 1:
            raise UserError(f"{name} is {value}; give 1 or more")
    started = time.monotonic()
    folder = None if out is None else check_report_folder(out, overwrite)
    opened = open_benchmarks(data, benchmarks, charset, limit, max_length)
    training = find_training(Path(data), None if against is None else Path(against)) if overlap_check else None
    compared = readers() if callable(readers) else readers
    overlaps = None if training is None else check_overlap(opened, training)
    comparison = compare(compared, opened, charset, choose_device(device), threads, console=console)
    report = build_report(comparison, command, config, {"total": time.monotonic() - started}, overlaps)
    if folder is not None:
        write_report(folder, report)
        write_galleries(folder, comparison)
        write_page(folder, report, comparison)
    return Evaluation(report, comparison)
