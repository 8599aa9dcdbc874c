"""Measure time and memory: decoding, training steps, the consistency loss, the loader, start-up, ONNX."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from distill.commands import CommandParser, integer
from distill.errors import exit_on_user_error
from students.errors import UserError
from students.files import check_file, write_file


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(prog="bench", description=__doc__)
    command.add_argument("--tables", metavar="NAMES", help="tables to measure, names with commas (default: all)")
    command.add_argument("--quick", action="store_true", help="the smallest cases and few rounds")
    command.add_argument("--rounds", type=integer(1), metavar="N", help="most rounds of a case (15; 3 when quick)")
    command.add_argument("--out", default="bench.json", metavar="FILE", help="where to write (%(default)s)")
    command.add_argument("--overwrite", action="store_true", help="replace FILE")
    command.add_argument("--threads", type=integer(1), default=1, metavar="K", help="CPU threads (%(default)s)")
    command.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where models compute (%(default)s)")
    command.add_argument("--profile", metavar="TRACE", help="write a trace of torch's profiler there, of every table")
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; see `parser`. Tables that are done before an interruption are printed, not written."""
    given = parser().parse_args(argv)
    out = Path(given.out)
    for option, file in (("--out", out), *([("--profile", Path(given.profile))] if given.profile else [])):
        check_file(file, option, given.overwrite)
    if given.profile and out.resolve() == Path(given.profile).resolve():
        raise UserError(f"--out and --profile are both {out}; give two files")

    from distill.training.allocator import tune_allocator

    tune_allocator()  # as in training, and before torch allocates anything
    import torch
    from rich.console import Console

    from distill.benchmarking import TABLES, Setup
    from distill.benchmarking.measuring import build_report, print_table

    names = list(dict.fromkeys(map(str.strip, given.tables.split(",")))) if given.tables else list(TABLES)
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise UserError(f"no table {unknown[0]!r}; choose among {', '.join(TABLES)}")
    if given.device == "cuda" and not torch.cuda.is_available():
        raise UserError("no GPU here; leave --device out")
    torch.set_num_threads(given.threads)
    setup = Setup(given.quick, given.rounds or (3 if given.quick else 15), device=given.device)
    console, rows = Console(), []
    with profiled(given.profile):
        for name in names:
            measured = list(TABLES[name](setup))
            print_table(name, measured, console)
            rows += measured
    report = build_report(rows, setup, shlex.join(["symdistill", "bench", *argv]))
    write_file(out, json.dumps(report, indent=1) + "\n")
    print(f"wrote {out}")
    return 0


@contextlib.contextmanager
def profiled(path: str | None) -> Iterator[None]:
    """Trace torch inside the block for chrome://tracing or Perfetto, when a path is given."""
    if path is None:
        yield
        return
    from torch.profiler import profile

    with profile(record_shapes=True) as profiler:
        yield
    profiler.export_chrome_trace(path)
