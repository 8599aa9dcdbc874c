"""Compare finished runs, such as ablations: a page with a table, curves, differences with intervals."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from distill.commands import CommandParser
from distill.errors import exit_on_user_error
from students.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(prog="compare", description=__doc__)
    command.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a finished run; the first is what others are compared with"
    )
    command.add_argument(
        "--out", default="comparison", metavar="DIR", help="folder for compare.html and compare.json (%(default)s)"
    )
    command.add_argument(
        "--curves", action="store_true", help="also write the learning curves as pictures, SVG and PNG"
    )
    command.add_argument("--overwrite", action="store_true", help="replace the comparison in an --out that exists")
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; see `parser`."""
    given = parser().parse_intermixed_args(argv)
    from rich.console import Console

    from distill.evaluation.page.runs_page import FIGURES, build_comparison, write_curves, write_runs_page
    from distill.evaluation.runs import group_runs, open_runs
    from distill.evaluation.tables import print_runs
    from students.files import check_output, remove

    out = Path(given.out)
    check_output(out, given.overwrite, f"a comparison ({FIGURES})", lambda folder: (folder / FIGURES).is_file())
    groups = group_runs(open_runs(given.runs))
    if len(groups) < 2:
        named = "one run" if len(given.runs) == 1 else "runs of one configuration that differ in their seed"
        raise UserError(f"{named}: nothing to compare with; give another run")
    figures = build_comparison(groups, shlex.join(["symdistill", "compare", *argv]))
    page = write_runs_page(out, groups, figures)
    for file in (*out.glob("curve-steps.*"), *out.glob("curve-time.*")):  # of the comparison that is replaced
        remove(file)
    pictures = write_curves(out, groups) if given.curves else []
    print_runs(figures, Console())
    print(f"report: {page}")
    if given.curves:
        print("curves: " + (", ".join(map(str, pictures)) or "none, for no run has logged a validation"))
    return 0
