"""Distil a frozen CLIP into a small reader of words, compare it with its teacher, export it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from distill.commands import CommandParser, add_run_options
from distill.config import load_config
from distill.errors import exit_on_user_error
from distill.schema import Config


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    arguments = CommandParser(prog="distill", description=__doc__)
    add_run_options(arguments, Config)
    arguments.add_argument(
        "--dry-run", action="store_true", help="build all, print the layer map and one step's losses, stop"
    )
    arguments.add_argument(
        "--parent", type=int, metavar="PID", help="save and stop when this process ends, which started the command"
    )
    return arguments


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; see `parser`."""
    given = parser().parse_intermixed_args(argv)  # overrides may stand before and after options
    # torch and its friends take seconds to import: arguments and configuration are checked before.
    from distill.training.run_folder import check_run_folder
    from distill.training.stopping import STOPPED, stop_with_parent

    if given.parent is not None:
        stop_with_parent(given.parent)
    config = load_config(Config, given.config, given.overrides)
    if not given.dry_run:
        check_run_folder(config, given.resume, given.overwrite)

    from distill.training.allocator import tune_allocator
    from distill.training.distill_run import distill, rehearse

    tune_allocator()
    if given.dry_run:
        rehearse(config)
        return 0
    command = ["symdistill", "distill", *argv]
    return 0 if distill(config, given.resume, given.overwrite, command).finished else STOPPED
