"""Read pictures of one word or line each: path, text and confidence, a line a picture."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from students.charset import Charset
    from students.decoding import Reading

STUDENT = "shipped name, folder of a reader, ONNX file, rapidocr or tesseract (%(default)s)"
PAGED = (".tif", ".tiff", ".gif", ".webp", ".apng", ".png", ".avif", ".avifs", ".mpo")
"""Endings of files that may hold several pictures."""
SHOW_PROGRESS_FROM = 500
"""Pictures from which on progress is shown."""


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(prog="read", description=__doc__)
    command.add_argument("--student", default="tiny", metavar="S", help=STUDENT)
    command.add_argument("images", nargs="+", metavar="IMAGE", help="picture files, or folders of them")
    command.add_argument("--json", action="store_true", help="print a JSON list instead of lines with tabs")
    command.add_argument(
        "--allow", metavar="CHARS",
        help="read these characters only: ranges such as 0-9A-Z, or a text file with the characters",
    )  # fmt: skip
    command.add_argument(
        "--batch", type=integer(1), default=64, metavar="N", help="pictures read at once (%(default)s)"
    )
    add_decoding_options(command)
    add_language_model_option(command)
    add_plugin_option(command)
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; see `parser`. Nothing is printed unless every picture can be read."""
    given = parser().parse_args(argv)
    decoding, refine_iters = chosen_decoding(given)
    # An ONNX file is read without torch, which takes seconds to import; so is a mistake in the arguments found.
    from distill.data.folders import find_pictures, list_names
    from distill.deployment.readers import choose_decoding, choose_language_model, open_model
    from distill.plugins import import_plugins

    files = find_pictures(given.images)
    if files.others:
        print(f"left out, no pictures by their names: {list_names(files.others)}", file=sys.stderr)
    if several := [str(path) for path in files.pictures if has_pages(path)]:
        print(f"of pictures with several pages or frames the first is read: {list_names(several)}", file=sys.stderr)
    if not given.json and (unfit := [path for path in files.pictures if {"\t", "\n", "\r"} & set(str(path))]):
        raise UserError(f"{str(unfit[0])!r} has a tab or a line end in its name, where lines are printed; add --json")
    import_plugins(given.plugin)
    reader = open_model(given.student)
    choose_decoding([reader], decoding, refine_iters)
    choose_language_model([reader], given.language_model)
    allow = None if given.allow is None else allow_list(given.allow, reader.model.charset)
    readings = reader.model.read_iter(files.pictures, given.batch, allow)
    if len(files.pictures) >= SHOW_PROGRESS_FROM:
        from distill.data.progress import followed

        readings = followed(readings, len(files.pictures), "reading")
    results = list(zip(files.pictures, readings, strict=True))
    if isinstance(sys.stdout, io.TextIOWrapper) and "utf" in sys.stdout.encoding.lower():
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files need not be UTF-8
    if given.json:
        print("[" + ",\n ".join(json.dumps(describe(path, reading)) for path, reading in results) + "]")
    else:
        for path, reading in results:
            print(f"{path}\t{reading.text}\t{reading.confidence:.4f}")
    return 0


def has_pages(path: Path) -> bool:
    """Tell whether a file holds several pictures, as scans and animations do."""
    from PIL import Image

    if path.suffix.lower() not in PAGED or not path.is_file():
        return False
    try:
        with warnings.catch_warnings(), Image.open(path) as opened:
            warnings.simplefilter("ignore")
            return getattr(opened, "n_frames", 1) > 1
    except Exception:  # Pillow raises anything for what is damaged, which is told by reading
        return False


def allow_list(given: str, charset: Charset) -> str | Path:
    """Return what `--allow` names, a file where there is one, and tell when the alphabet has one case only."""
    from students.allow import expand_allowed

    allow = Path(given) if os.path.isfile(given) else given
    folded = "".join(char for char in expand_allowed(allow) if char != charset.apply_case(char))
    if folded:
        print(
            f"--allow: the reader's alphabet has {charset.case} case only; {folded} are read as "
            f"{charset.apply_case(folded)}",
            file=sys.stderr,
        )
    return allow


def describe(path: Path, reading: Reading) -> dict[str, Any]:
    """Return what `--json` says of a picture."""
    return {
        "path": str(path),
        "word": reading.text,
        "confidence": round(reading.confidence, 6),
        "turned": reading.turned,
        "characters": [
            {
                "character": char.text,
                "confidence": round(char.confidence, 6),
                "start": None if char.start is None else round(char.start, 6),
                "end": None if char.end is None else round(char.end, 6),
            }
            for char in reading.characters
        ],
    }
