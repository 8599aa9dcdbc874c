"""Train a teacher: a small CLIP of words, contrastively, or one that reads, CLIP4STR or PARSeq."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from distill.commands import CommandParser
from distill.config import load_config
from distill.config_help import HelpConfig
from distill.errors import exit_on_user_error
from distill.schema import TeacherConfig


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    arguments = CommandParser(prog="train_teacher", description=__doc__)
    arguments.add_argument(
        "--config", required=True, metavar="F", help="YAML file, or the name of a shipped configuration"
    )
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="override one key of the configuration")
    arguments.add_argument(
        "--resume", metavar="auto|DIR", help="continue the run in its folder, from the latest checkpoint or DIR"
    )
    arguments.add_argument("--overwrite", action="store_true", help="replace an earlier run in the folder")
    arguments.add_argument("--help-config", action=HelpConfig, schema=TeacherConfig)
    return arguments


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `parser`."""
    given = parser().parse_intermixed_args(argv)
    # torch and its friends take seconds to import: arguments and configuration are checked before.
    from distill.training.run_folder import check_run_folder
    from distill.training.stopping import STOPPED

    config = load_config(TeacherConfig, given.config, given.overrides)
    check_run_folder(config, given.resume, given.overwrite)

    from distill.training.allocator import tune_allocator
    from distill.training.teacher_run import train_teacher

    tune_allocator()
    command = ["tools/train_teacher.py", *(argv if argv is not None else sys.argv[1:])]
    return 0 if train_teacher(config, given.resume, given.overwrite, command).finished else STOPPED
