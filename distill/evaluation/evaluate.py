"""Evaluate readers: open sets and readers, search training words for test words, compare, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import nn

from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.readers import ModelReader, WordReader, choose_device, open_model
from distill.evaluation.benchmarks import check_overlap, find_training, open_benchmarks
from distill.evaluation.compare import Comparison, check_names, compare
from distill.evaluation.gallery import write_galleries
from distill.evaluation.lexicon import open_teacher, teacher_reader
from distill.evaluation.page.report_page import write_page
from distill.evaluation.report import build_report, check_report_folder, write_report
from students.charset import Charset
from students.errors import UserError
from students.pretrained import typed
from students.reading import Reader
from teachers.peers import Peer
from teachers.teacher import Teacher

LONGEST = 80
"""Characters of a value that a message shows."""
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
    readers: ReaderLike | Iterable[ReaderLike] | Mapping[str, ReaderLike],
    data: str | Path,
    *,
    teachers: str | Path | Teacher | Iterable[str | Path | Teacher] | None = (),
    peers: str | Path | Iterable[str | Path] | None = (),
    benchmarks: str | Iterable[str] = "six",
    charset: str | Charset = "36",
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
        teachers: teachers to compare with, or their names; a CLIP chooses from a closed lexicon.
        peers: readers of other programs to compare with: `rapidocr`, `tesseract`, ONNX files (docs/howto/peers.md).
        benchmarks: `six`, `all`, or names, with commas or in a list; a single set is read whatever its name.
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
    scored = charset if isinstance(charset, Charset) else Charset.load(str(charset))
    if isinstance(readers, Mapping):
        opened = [_open(reader, name) for name, reader in readers.items()]
    elif isinstance(readers, Iterable) and not isinstance(readers, str):
        opened = [_open(reader) for reader in readers]
    else:
        opened = [_open(readers)]
    opened += [_open_teacher(teacher, scored) for teacher in _listed(teachers)]
    opened += [open_model(typed(name), "peer") for name in _listed(peers)]
    if not isinstance(benchmarks, str | Iterable):
        raise UserError(f"benchmarks is {benchmarks!r}; give six, all, or names")
    sets = benchmarks if isinstance(benchmarks, str) else ",".join(map(str, benchmarks))
    if out is not None and not isinstance(out, str | Path):
        raise UserError(f"out is {out!r}; give a folder")
    models = [each.model if isinstance(each, ModelReader) else getattr(each, "teacher", None) for each in opened]
    homes = [(model, next(model.parameters()).device) for model in models if isinstance(model, nn.Module)]
    try:
        return run_evaluation(
            opened, data, scored, benchmarks=sets, limit=limit, max_length=max_length,
            overlap_check=overlap_check, device=device, out=out, overwrite=overwrite, command="symdistill.evaluate",
        ).report  # fmt: skip
    finally:
        for model, home in homes:
            model.to(home)


def _listed(given: Any) -> list[Any]:
    """List what is given as one, several or None."""
    if given is None or (isinstance(given, Iterable) and not isinstance(given, str | Path | nn.Module)):
        return list(given or ())
    return [given]


def _open_teacher(teacher: Any, charset: Charset) -> WordReader:
    if isinstance(teacher, str | Path):
        return open_teacher(typed(teacher), charset)
    if isinstance(teacher, Reader | OnnxReader | Peer):
        return ModelReader(teacher, role="teacher")
    if not isinstance(teacher, Teacher):
        raise UserError(f"{_shown(teacher)} is no teacher; give what symdistill.load_teacher returns, or a name")
    return teacher_reader(teacher, charset)


def _shown(value: object) -> str:
    return repr(value) if len(repr(value)) < LONGEST else f"a {type(value).__name__}"


def _open(reader: ReaderLike, name: str | None = None) -> WordReader:
    if not isinstance(reader, ReaderLike):
        raise UserError(f"{_shown(reader)} is no reader; give what symdistill.load returns, or a name that it opens")
    if name is not None and not isinstance(name, str):
        raise UserError(f"{name!r} is no name of a reader; give a text")
    opened = open_model(typed(reader)) if isinstance(reader, str | Path) else ModelReader(reader)
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

    Raises:
        UserError: for missing data, readers that cannot be opened, or an `out` that may not be replaced.
    """
    for name, value in {"limit": limit, "max_length": max_length}.items():
        if value is not None and (type(value) is not int or value < 1):
            raise UserError(f"{name} is {value!r}; give a whole number, 1 or more")
    if not isinstance(data, str | Path) or not str(data):
        raise UserError(f"{data!r} is no folder of words; give its path")
    chosen_device = choose_device(device)
    started = time.monotonic()
    folder = None if out is None else check_report_folder(out, overwrite)
    opened = open_benchmarks(data, benchmarks, charset, limit, max_length)
    training = find_training(Path(data), None if against is None else Path(against)) if overlap_check else None
    compared = readers() if callable(readers) else readers
    check_names(compared)
    overlaps = None if training is None else check_overlap(opened, training)
    comparison = compare(compared, opened, charset, chosen_device, threads)
    report = build_report(comparison, command, config, {"total": time.monotonic() - started}, overlaps)
    if folder is not None:
        write_report(folder, report)
        write_galleries(folder, comparison)
        write_page(folder, report, comparison)
    return Evaluation(report, comparison)
