"""How readers that have a choice shall read: the arguments `--one-shot` and `--refinements` of several commands."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.errors import UserError

if TYPE_CHECKING:
    from students.reading import Decoding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add both arguments."""
    parser.add_argument("--one-shot", action="store_true", help="read all characters at once (PARSeq, CLIP4STR)")
    parser.add_argument(
        "--refinements",
        type=int,
        metavar="N",
        help="read again N times with what was read (PARSeq, CLIP4STR, students that do)",
    )


def chosen(given: argparse.Namespace) -> tuple[Decoding | None, int | None]:
    """Give what was chosen, None for what was not; raises `UserError` for a number below 0."""
    if given.refinements is not None and given.refinements < 0:
        raise UserError(f"--refinements must be 0 or more, not {given.refinements}")
    return ("one-shot" if given.one_shot else None), given.refinements
