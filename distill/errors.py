"""Tell a user's mistake in one line on stderr and exit with 2; let a bug keep its traceback."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

from students.errors import UserError

__all__ = ["Command", "UserError", "exit_on_user_error"]

Command = Callable[..., int]
"""A command's `main(argv: Sequence[str] | None = None) -> int`."""


def exit_on_user_error(main: Command) -> Command:
    """Wrap a command's `main` so that a `UserError` in it becomes one line on stderr and exit code 2."""

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except UserError as error:
            # One mistake is one line, whatever a library's message inside it looks like.
            print("error: " + " ".join(str(error).split()), file=sys.stderr)
            return 2

    return guarded
