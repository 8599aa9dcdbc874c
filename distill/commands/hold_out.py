"""Hold every n-th label of labelled pictures out of training, to choose by."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from distill.commands import CommandParser, integer
from distill.data.holding_out import hold_out
from distill.data.lmdb_reader import describe_unread
from distill.data.progress import PLAIN
from distill.data.trees import describe_loose, open_sets
from distill.errors import exit_on_user_error

NAMED = 3
"""Records without a readable label or picture that are named."""


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(
        prog="hold_out",
        description="Copy labelled pictures to OUT/train, and those of every n-th label to OUT/held-out: whoever "
        "learns from the former has seen no word of the latter.",
    )
    command.add_argument("data", type=Path, help="an LMDB, a folder of labelled pictures, or a tree of both")
    command.add_argument("out", type=Path, help="folder to write; must not exist")
    command.add_argument(
        "--every", type=integer(2), default=8, metavar="N", help="hold about one of N labels out (%(default)s)"
    )
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; see `parser`."""
    given = parser().parse_args(argv)
    sets = open_sets(given.data)
    counts = hold_out(sets, given.data, given.out, given.every)
    console = Console(**PLAIN)
    console.print(f"{given.out / 'held-out'}: {counts.held_out} of {counts.total} words")
    if counts.signs:
        console.print(f"  {counts.signs} of them have no letters or digits: labels such as `&` are all held out")
    if not 0.5 < given.every * counts.held_out / counts.total < 2:
        console.print("  few labels: each goes by itself, and the share may be far from one in N; try another --every")
    for name, count in counts.train.items():
        console.print(f"{given.out / 'train' / name}: {count} words")
    for line in describe_loose(given.data, sets):
        console.print(f"  {line}")
    if counts.unreadable:
        named = "; ".join(counts.unreadable[:NAMED]) + ("; ..." if len(counts.unreadable) > NAMED else "")
        console.print(f"  left out: {len(counts.unreadable)} without a readable label or picture: {named}")
    if counts.illegible:
        console.print(f"  left out: {counts.illegible} marked as illegible (### and the like)")
    if counts.damaged:
        console.print(f"  {counts.damaged} without their confidence, which is no number from 0 to 1")
    for line in describe_unread(sets):
        console.print(line)
    return 0
