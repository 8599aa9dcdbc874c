"""How readers that have a choice shall read: `--nar`, `--refine_iters`, `--decoder-dtype` of several commands."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.errors import UserError

if TYPE_CHECKING:
    from students.reading import Decoding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add both arguments."""
    parser.add_argument("--nar", action="store_true", help="read all characters at once (PARSeq, CLIP4STR)")
    parser.add_argument(
        "--refine_iters",
        type=int,
        metavar="N",
        help="read again N times with what was read (PARSeq, CLIP4STR, students that do)",
    )


def add_decoder_dtype(parser: argparse.ArgumentParser) -> None:
    """Add `--decoder-dtype`, for commands that read with PyTorch."""
    parser.add_argument(
        "--decoder-dtype", default="float32", choices=("float32", "int8"),
        help="how weights that greedy decoding reads at every step are held, on the CPU (%(default)s)",
    )  # fmt: skip


def chosen(given: argparse.Namespace) -> tuple[Decoding | None, int | None]:
    """Give what was chosen, None for what was not; raises `UserError` for a number below 0."""
    if given.refine_iters is not None and given.refine_iters < 0:
        raise UserError(f"--refine_iters must be 0 or more, not {given.refine_iters}")
    return ("nar" if given.nar else None), given.refine_iters
