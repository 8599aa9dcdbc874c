"""Compare readers on the same words: accuracy with intervals, 1-NED, both averages, time, McNemar's test."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.commands import (
    CommandParser,
    add_decoding_options,
    add_language_model_option,
    add_plugin_option,
    chosen_decoding,
    integer,
)
from distill.errors import exit_on_user_error
from students.errors import UserError

if TYPE_CHECKING:
    from distill.deployment.readers import WordReader
    from students.charset import Charset

PEER = "reader of another program: rapidocr, tesseract or an ONNX file (docs/howto/peers.md); repeatable"
TEACHER = "any name of teacher.name: a CLIP, which chooses from a lexicon, or a reader; or an ONNX file; repeatable"


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(prog="evaluate", description=__doc__)
    add = command.add_argument
    add("--student", action="append", default=[], metavar="S", help="shipped name, folder or ONNX file; repeatable")
    add("--baseline", action="append", default=[], metavar="S", help="the same student trained without guidance")
    add("--teacher", action="append", default=[], metavar="T", help=TEACHER)
    add("--peer", action="append", default=[], metavar="P", help=PEER)
    add_plugin_option(command)
    add("--data", metavar="DIR", help="folder with test/SET in it, or one LMDB")
    add("--sets", default="six", metavar="SETS", help="six, all, or names with commas (%(default)s)")
    add("--charset", default="36", metavar="C", help="36, 62, 94, 95 or a file: alphabet that is scored (%(default)s)")
    add(
        "--max-length", type=integer(1), default=25, metavar="N",
        help="longest label; longer ones are left out (%(default)s)",
    )  # fmt: skip
    add("--lexicon", metavar="FILE", help="words that are chosen among, one a line; else each set's own")
    add("--closed-lexicon", action="store_true", help="score open readers by closed lexicon too, in a table apart")
    add("--limit", type=integer(1), metavar="N", help="N words of each set only, for a quick look")
    add("--against", metavar="TRAIN", help="training words to search for test words (DATA/train, when it is there)")
    add("--no-overlap-check", action="store_true", help="don't search training words for test words")
    add("--doctor", action="store_true", help="report instead what each --teacher can't teach about --charset")
    add(
        "--out",
        metavar="DIR",
        help="folder for report.html, report.json, report.md and galleries of words (or doctor.json, doctor.md)",
    )
    add("--overwrite", action="store_true", help="replace the report in an --out that exists")
    add("--threads", type=integer(1), metavar="K", help="CPU threads; times a word are on one thread always")
    add("--device", default="auto", choices=("auto", "cpu", "cuda"), help="where sets are read (%(default)s)")
    add_decoding_options(command)
    add_language_model_option(command)
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; see `parser`. Nothing is written unless the whole comparison succeeds."""
    given = parser().parse_args(argv)
    check(given)
    # torch and its friends take seconds to import: what the arguments alone tell is checked before.
    import torch

    from distill.plugins import import_plugins

    if given.threads:
        torch.set_num_threads(given.threads)
    import_plugins(given.plugin)
    if given.doctor:
        from distill.evaluation.doctor import run_doctor

        run_doctor(given.teacher, given.charset, argv, given.out, given.overwrite)
    else:
        run_comparison(given, argv)
    return 0


def check(given: argparse.Namespace) -> None:
    """Check what the arguments alone tell; raises `UserError`."""
    if given.doctor:
        if not given.teacher:
            raise UserError("--doctor needs a teacher; give --teacher NAME")
        others = (
            "student", "baseline", "peer", "data", "lexicon", "closed_lexicon", "sets", "max_length", "limit",
            "against", "no_overlap_check", "nar", "refine_iters", "language_model", "device",
        )  # fmt: skip
        foreign = [name for name in others if getattr(given, name) != parser().get_default(name)]
        if foreign:
            raise UserError(f"--doctor looks at teachers only; leave --{foreign[0].replace('_', '-')} out")
        return
    if not (given.student or given.teacher or given.peer):
        raise UserError("nothing to compare; give --student S, such as tiny (or --teacher NAME --doctor)")
    if given.data is None:
        raise UserError("no words to read; give --data DIR")
    if given.lexicon and not (given.teacher or given.closed_lexicon):
        raise UserError("--lexicon is for --teacher, or --closed-lexicon; give one, or leave --lexicon out")
    if given.against and given.no_overlap_check:
        raise UserError("--against and --no-overlap-check exclude each other; leave one out")


def run_comparison(given: argparse.Namespace, argv: Sequence[str]) -> None:
    """Compare, print the tables, and write them where that is asked for."""
    from rich.console import Console

    from distill.evaluation.evaluate import run_evaluation
    from distill.evaluation.tables import print_report
    from students.charset import Charset

    charset = Charset.load(given.charset)
    evaluation = run_evaluation(
        lambda: open_readers(given, charset),
        given.data,
        charset,
        benchmarks=given.sets,
        limit=given.limit,
        max_length=given.max_length,
        overlap_check=not given.no_overlap_check,
        against=given.against,
        device=given.device,
        threads=given.threads,
        out=given.out,
        overwrite=given.overwrite,
        command=["symdistill", "evaluate", *argv],
        config={key: value for key, value in vars(given).items() if key not in ("out", "overwrite", "doctor")},
    )
    print_report(evaluation.report, Console())
    if given.out:
        print(f"report: {Path(given.out) / 'report.html'}")


def identify(name: str) -> str:
    """Return a key that is equal for every spelling of one reader: the path of its folder or file."""
    from students.pretrained import SHIPPED, shipped

    path = SHIPPED / name if name in shipped() else Path(name)
    return str(path.resolve()) if path.exists() else name


def open_readers(given: argparse.Namespace, charset: Charset) -> list[WordReader]:
    """Open all readers, students first; readers of one name go by what was typed."""
    from distill.deployment.readers import choose_decoding, choose_language_model, open_model
    from distill.evaluation.lexicon import NearestWordReader, open_teacher, read_lexicon

    typed = [*given.student, *given.baseline, *given.teacher, *given.peer]
    places = [identify(name) for name in typed]
    again = next((name for name, one in zip(typed, places, strict=True) if places.count(one) > 1), None)
    if again is not None:
        raise UserError(f"{again} is given twice; name each reader once")
    lexicon = None
    if given.lexicon:
        lexicon, dropped = read_lexicon(given.lexicon, charset, given.max_length)
        if dropped:
            listed = ", ".join(f"{count} {reason}" for reason, count in dropped.most_common())
            print(f"{given.lexicon}: {len(lexicon)} words; lines left out: {listed}", file=sys.stderr)
    readers: list[WordReader] = [open_model(name, "student", given.threads) for name in given.student]
    readers += [open_model(name, "baseline", given.threads) for name in given.baseline]
    readers += [open_teacher(name, charset, lexicon, given.threads) for name in given.teacher]
    readers += [open_model(name, "peer", given.threads) for name in given.peer]
    choose_decoding(readers, *chosen_decoding(given))
    choose_language_model(readers, given.language_model)
    names = [reader.name for reader in readers]
    for reader, name in zip(readers, typed, strict=True):
        if names.count(reader.name) > 1:
            reader.name = name
    opened = [reader for reader in readers if reader.reading == "open"]
    if given.closed_lexicon and not opened:
        raise UserError("--closed-lexicon is for readers that read openly; these choose from a lexicon, leave it out")
    if lexicon is not None and len(opened) == len(readers) and not given.closed_lexicon:
        raise UserError("--lexicon: all of these read openly; add --closed-lexicon to let them choose, or leave it out")
    return [*readers, *(NearestWordReader(reader, charset, lexicon) for reader in opened if given.closed_lexicon)]
