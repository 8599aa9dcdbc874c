"""Read pictures of one word each: path, word and confidence, a line a picture."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from distill.commands import CommandParser, add_decoding_options, chosen_decoding
from distill.errors import UserError, exit_on_user_error

if TYPE_CHECKING:
    from students.decoding import Reading

SHOW_PROGRESS_FROM = 500
"""Pictures from which on a terminal shows a progress bar."""


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(prog="read", description=__doc__)
    command.add_argument(
        "--student", default="tiny", metavar="S", help="shipped name, folder of a reader, or ONNX file (%(default)s)"
    )
    command.add_argument("images", nargs="+", metavar="IMAGE", help="picture files, or folders of them")
    command.add_argument("--json", action="store_true", help="print a JSON list instead of lines with tabs")
    command.add_argument("--batch", type=int, default=64, metavar="N", help="pictures read at once (%(default)s)")
    add_decoding_options(command)
    return command


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `parser`. Nothing is printed unless every picture can be read."""
    given = parser().parse_args(argv)
    if given.batch < 1:
        raise UserError("--batch must be 1 or more")
    decoding, refine_iters = chosen_decoding(given)
    # An ONNX file is read without torch, which takes seconds to import; so is a mistake in the arguments found.
    from distill.data.folders import find_pictures, list_names
    from distill.deployment.readers import choose_decoding, open_model

    files = find_pictures(given.images)
    if files.others:
        print(f"left out, no pictures by their names: {list_names(files.others)}", file=sys.stderr)
    reader = open_model(given.student)
    choose_decoding([reader], decoding, refine_iters)
    readings = [*with_progress(reader.model.read_iter(files.pictures, given.batch), len(files.pictures))]
    results = list(zip(files.pictures, readings, strict=True))
    for path, reading in results:
        if not math.isfinite(reading.confidence):
            raise UserError(f"{given.student} gives NaN instead of probabilities for {path}: its weights are damaged")
    if given.json:
        rows = [
            json.dumps({"path": str(path), "word": reading.text, "confidence": round(reading.confidence, 6)})
            for path, reading in results
        ]
        print("[" + ",\n ".join(rows) + "]")
    else:
        for path, reading in results:
            print(f"{path}\t{reading.text}\t{reading.confidence:.4f}")
    return 0


def with_progress(readings: Iterable[Reading], total: int) -> Iterable[Reading]:
    """Show a progress bar on a terminal while many pictures are read."""
    if total < SHOW_PROGRESS_FROM or not sys.stderr.isatty():
        return readings
    from rich.console import Console
    from rich.progress import track

    return track(readings, "reading", total, console=Console(stderr=True), transient=True)
