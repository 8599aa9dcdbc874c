"""Compare readers on the same words: accuracy with intervals, 1-NED, both averages, time, McNemar's test."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.errors import UserError, exit_on_user_error

if TYPE_CHECKING:
    from distill.evaluation.compare import Comparison
    from distill.evaluation.readers import WordReader
    from students.charset import Charset

GALLERY_WORDS = 36
"""Words of each reader's gallery."""


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    made = argparse.ArgumentParser(prog="evaluate", description=__doc__)
    add = made.add_argument
    add("--student", action="append", required=True, metavar="S", help="shipped name, folder or ONNX file; repeatable")
    add("--twin", action="append", default=[], metavar="S", help="the same student trained without guidance")
    add("--teacher", action="append", default=[], metavar="T", help="a CLIP, scored as closed-lexicon (as for distill)")
    add("--data", required=True, metavar="DIR", help="folder with test/SET in it, or one LMDB")
    add("--sets", default="six", metavar="SETS", help="six, all, or names with commas (%(default)s)")
    add("--charset", default="36", metavar="C", help="36, 62, 94 or a text file: alphabet that is scored (%(default)s)")
    add("--lexicon", metavar="FILE", help="words the teacher chooses among, one a line; else each set's own")
    add("--limit", type=int, metavar="N", help="N words of each set only, for a quick look")
    add("--against", metavar="TRAIN", help="training words to search for test words (DATA/train, when it is there)")
    add("--no-leak-check", action="store_true", help="don't search training words for test words")
    add("--out", metavar="DIR", help="write report.json, report.md and galleries there")
    add("--overwrite", action="store_true", help="replace the report in an --out that exists")
    add("--threads", type=int, metavar="K", help="CPU threads; times a word are on one thread always")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where sets are read (%(default)s)")
    return made


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `parser`. Nothing is written unless the whole comparison succeeds."""
    words = list(sys.argv[1:] if argv is None else argv)
    given = parser().parse_args(words)
    for name in ("limit", "threads"):
        if (value := getattr(given, name)) is not None and value < 1:
            raise UserError(f"--{name} must be 1 or more, not {value}")
    if given.lexicon and not given.teacher:
        raise UserError("--lexicon is for --teacher; give one, or leave --lexicon out")
    if given.against and given.no_leak_check:
        raise UserError("--against and --no-leak-check exclude each other; leave one out")
    started = time.monotonic()
    # torch and its friends take seconds to import: what the arguments alone tell is checked before.
    import torch
    from rich.console import Console

    from distill.evaluation.benchmarks import open_benchmarks
    from distill.evaluation.compare import compare
    from distill.evaluation.leak_check import check_leaks, find_training
    from distill.evaluation.readers import choose_device
    from distill.evaluation.report import build_report, check_output, write_report
    from distill.evaluation.tables import print_report
    from students.charset import Charset

    out = check_output(given.out, given.overwrite) if given.out else None
    if given.threads:
        torch.set_num_threads(given.threads)
    charset = Charset.load(given.charset)
    benchmarks = open_benchmarks(given.data, given.sets, charset, given.limit)
    against = None
    if not given.no_leak_check:
        against = find_training(Path(given.data), Path(given.against) if given.against else None)
    readers = open_readers(given, charset)
    leaks = None if against is None else check_leaks(benchmarks, against)
    comparison = compare(readers, benchmarks, charset, choose_device(given.device), given.threads)
    config = {key: value for key, value in vars(given).items() if key not in ("out", "overwrite")}
    seconds = {"total": time.monotonic() - started}
    report = build_report(comparison, ["symdistill", "evaluate", *words], config, seconds, leaks)
    print_report(report, Console())
    if out is not None:
        write_report(out, report)
        write_galleries(out, comparison)
        print(f"wrote {out / 'report.json'}")
    return 0


def open_readers(given: argparse.Namespace, charset: Charset) -> list[WordReader]:
    """Open all readers, students first; readers of one name go by what was typed."""
    from distill.evaluation.lexicon import LexiconReader, read_lexicon
    from distill.evaluation.readers import open_reader
    from teachers import load_teacher

    typed = [*given.student, *given.twin, *given.teacher]
    again = next((name for name in typed if typed.count(name) > 1), None)
    if again is not None:
        raise UserError(f"{again} is given twice; name each reader once")
    readers: list[WordReader] = [open_reader(name, "student", given.threads) for name in given.student]
    readers += [open_reader(name, "twin", given.threads) for name in given.twin]
    lexicon = read_lexicon(given.lexicon, charset) if given.lexicon else None
    readers += [LexiconReader(load_teacher(name), charset, lexicon) for name in given.teacher]
    names = [reader.name for reader in readers]
    for reader, name in zip(readers, typed, strict=True):
        if names.count(reader.name) > 1:
            reader.name = name
    return readers


def write_galleries(out: Path, comparison: Comparison) -> None:
    """Write a grid of misread and read words for every reader that reads openly."""
    import numpy as np

    from distill.evaluation.gallery import GalleryItem, choose, write_gallery

    places = [(benchmark, number) for benchmark in comparison.benchmarks for number in range(len(benchmark))]
    for reader in comparison.readers:
        if reader.reading != "open":
            continue
        results = [reader.sets[benchmark.name] for benchmark in comparison.benchmarks]
        right = [hit for result in results for hit in result.hits]
        sure = [confidence for result in results for confidence in result.confidences]
        shown = []
        for benchmark, number in (places[place] for place in choose(right, sure, GALLERY_WORDS)):
            result, pixels = reader.sets[benchmark.name], np.asarray(benchmark.load(number))
            read, confidence = result.predictions[number], result.confidences[number]
            shown.append(GalleryItem(pixels, benchmark.labels[number], read, confidence))
        write_gallery(out / f"words-{re.sub(r'[^A-Za-z0-9.-]+', '_', reader.name)}.png", shown)
