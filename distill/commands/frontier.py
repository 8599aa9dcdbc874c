"""Draw accuracy against milliseconds a word, of the readers of one or several reports, as PNG and SVG."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from distill.commands import CommandParser
from distill.errors import exit_on_user_error
from students.errors import UserError
from students.files import check_file


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(prog="frontier", description=__doc__)
    command.add_argument(
        "reports", nargs="+", metavar="REPORT", help="folder of a run or an evaluation, or its report.json"
    )
    command.add_argument("--out", default="frontier", metavar="PATH", help="writes PATH.svg and PATH.png (%(default)s)")
    command.add_argument("--overwrite", action="store_true", help="replace the pictures when they exist")
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; see `parser`."""
    given = parser().parse_intermixed_args(argv)
    from distill.evaluation.frontier import collect_places
    from distill.evaluation.page import charts
    from distill.evaluation.page.svg import drawing, picture_files, write_pictures

    out = Path(given.out)
    if out.suffix.lower() in (".svg", ".png"):
        out = out.with_suffix("")
    if out.is_dir():
        raise UserError(f"{out} is a folder; give --out a name without ending, such as pictures/frontier")
    for file in picture_files(out):
        check_file(file, "--out", given.overwrite)
    places, notes = collect_places(given.reports)
    with drawing():
        files = write_pictures(charts.frontier(places, width=640, height=420), out)
    for note in notes:
        print(f"note: {note}")
    print("wrote " + ", ".join(map(str, files)))
    return 0
