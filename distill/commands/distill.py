"""Distil a frozen CLIP into a small reader of words, compare it with its teacher, export it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from distill.commands import CommandParser
from distill.config import load_config
from distill.config_help import HelpConfig
from distill.errors import exit_on_user_error
from distill.schema import Config


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    arguments = CommandParser(prog="distill", description=__doc__)
    arguments.add_argument(
        "--config", required=True, metavar="F", help="YAML file, or the name of a shipped configuration"
    )
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="override one key of the configuration")
    arguments.add_argument(
        "--dry-run", action="store_true", help="build all, print the layer map and one step's losses, stop"
    )
    arguments.add_argument(
        "--resume", metavar="auto|DIR", help="continue the run in its folder, from the latest checkpoint or DIR"
    )
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier run in the folder")
    arguments.add_argument(
        "--parent", type=int, metavar="PID", help="save and stop when this process ends, which started the command"
    )
    arguments.add_argument("--help-config", action=HelpConfig, schema=Config)
    return arguments


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> int:
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
    command = ["tools/distill.py", *(argv if argv is not None else sys.argv[1:])]
    return 0 if distill(config, given.resume, given.overwrite, command).finished else STOPPED
