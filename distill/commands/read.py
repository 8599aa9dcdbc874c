"""Read pictures of one word each: path, word and confidence, a line a picture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.decoding_arguments import add_arguments, add_decoder_dtype, chosen
from distill.errors import UserError, exit_on_user_error
from distill.parser import CommandParser

if TYPE_CHECKING:
    from torch import Tensor

SHOW_PROGRESS_FROM = 500
"""Pictures from which on a terminal shows a progress bar."""


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    made = CommandParser(prog="read", description=__doc__)
    made.add_argument(
        "--student", default="tiny", metavar="S", help="shipped name, folder of a reader, or ONNX file (%(default)s)"
    )
    made.add_argument("images", nargs="+", metavar="IMAGE", help="picture files, or folders of them")
    made.add_argument("--json", action="store_true", help="print a JSON list instead of lines with tabs")
    made.add_argument("--batch", type=int, default=64, metavar="N", help="pictures read at once (%(default)s)")
    add_arguments(made)
    add_decoder_dtype(made)
    return made


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `parser`. Nothing is printed unless every picture can be read."""
    given = parser().parse_args(argv)
    if given.batch < 1:
        raise UserError("--batch must be 1 or more")
    decoding, refine_iters = chosen(given)
    # torch and its friends take seconds to import: what the arguments alone tell is checked before.
    from distill.data.folders import find_pictures, list_names
    from distill.evaluation.readers import choose_decoder_dtype, choose_decoding, open_reader

    found_files = find_pictures(given.images)
    paths = found_files.pictures
    if found_files.others:
        print(f"left out, no pictures by their names: {list_names(found_files.others)}", file=sys.stderr)
    reader = open_reader(given.student)
    choose_decoding([reader], decoding, refine_iters)
    choose_decoder_dtype([reader], given.decoder_dtype)
    found: list[tuple[Path, str, float]] = []
    for start, images in batches(paths, reader.image_size, given.batch):
        readings = reader.read_batch(images)
        names = paths[start : start + len(readings)]
        found += [(path, reading.text, reading.confidence) for path, reading in zip(names, readings, strict=True)]
    if given.json:
        rows = [
            json.dumps({"path": str(path), "word": word, "confidence": round(sure, 6)}) for path, word, sure in found
        ]
        print("[" + ",\n ".join(rows) + "]")
    else:
        for path, word, sure in found:
            print(f"{path}\t{word}\t{sure:.4f}")
    return 0


def batches(paths: Sequence[Path], size: tuple[int, int], batch: int) -> Iterator[tuple[int, Tensor]]:
    """Load pictures batch by batch: the first one's number and normalised (N, 3, H, W)."""
    from rich.console import Console
    from rich.progress import track

    from students.pictures import decode_picture, to_tensor

    console = Console(stderr=True)
    silent = len(paths) < SHOW_PROGRESS_FROM or not console.is_terminal
    starts = range(0, len(paths), batch)
    for start in track(starts, "reading", console=console, transient=True, disable=silent):
        yield start, to_tensor([decode_picture(path) for path in paths[start : start + batch]], size)
