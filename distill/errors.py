"""Print a user's mistake as one line on stderr and exit with 2; a bug keeps its traceback."""

from __future__ import annotations

import functools
import io
import os
import select
import sys
from collections.abc import Callable, Sequence

from distill.processes import MISTAKE, report_once
from students.errors import UserError
from students.files import is_full

Command = Callable[[Sequence[str]], int]
"""A command's `main`: takes the arguments behind its name and returns the exit code."""

CLOSED_PIPE = 141
"""Exit code when whoever read the output (`head`, a pager) has left: 128 + SIGPIPE, as in shells."""
STDOUT = 1
"""File descriptor of standard output, whatever `sys.stdout` has become."""


def exit_on_user_error(main: Command) -> Callable[..., int]:
    """Wrap a command's `main` so that a `UserError` in it becomes one line on stderr and exit code 2.

    Without arguments it takes those of the command line. Output that nobody reads any more ends the command without a
    word, see `CLOSED_PIPE`.
    """

    @functools.wraps(main)
    def guarded(argv: Sequence[str] | None = None) -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal of few characters must not end what took hours
            sys.stdout.reconfigure(errors="replace")
        try:
            code = run(main, sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            if not output_is_closed():
                raise  # another pipe broke, one of the command's own
            # What is still buffered goes nowhere; else Python would try again, and complain, when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
            return CLOSED_PIPE

    return guarded


def run(main: Command, argv: Sequence[str]) -> int:
    """Run `main`; a mistake, or a full disk, is reported and returns 2."""
    try:
        return main(argv)
    except UserError as error:
        # One mistake is one line, whatever a library's message inside it looks like.
        return report_mistake(str(error))
    except SystemExit:  # argparse has printed its help
        sys.stdout.flush()
        raise
    except Exception as error:
        if not is_full(error):
            raise
        return report_mistake(
            f"no room left on the disk ({error}); make room and start again, a training with --resume auto"
        )


def report_mistake(message: str) -> int:
    """Print a mistake, and return its exit code."""
    report_once("error: " + " ".join(message.split()))
    return MISTAKE


def output_is_closed() -> bool:
    """Tell whether the other end of standard output is gone."""
    poll = select.poll()
    poll.register(STDOUT, 0)
    return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))
