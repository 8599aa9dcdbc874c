"""Train a teacher: a small CLIP of words, contrastively, or one that reads, CLIP4STR or PARSeq."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from distill.commands import CommandParser, add_run_options
from distill.config import load_config
from distill.errors import exit_on_user_error
from distill.schema import TeacherConfig


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    arguments = CommandParser(prog="train_teacher", description=__doc__)
    add_run_options(arguments, TeacherConfig)
    return arguments


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
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
    command = ["symdistill", "train-teacher", *argv]
    return 0 if train_teacher(config, given.resume, given.overwrite, command).finished else STOPPED
