"""One name for all commands: `symdistill NAME`, `python -m distill NAME`, `accelerate launch -m distill NAME`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from distill.commands import commands
from distill.errors import exit_on_user_error
from students.errors import UserError
from students.version import package_version

USAGE = "usage: symdistill COMMAND [ARGUMENT...]"


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command that `argv` opens with and return its exit code.

    Raises:
        SystemExit: when the command's own arguments ask for help, with code 0.
    """
    known = commands()
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(command_list(known), file=sys.stdout if argv else sys.stderr)
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"symdistill {package_version()}")
        return 0
    name = argv[0].replace("-", "_")
    if name not in known:
        raise UserError(f"no command {argv[0]!r}{nearest(name, known)}; `symdistill --help` lists all")
    module = importlib.import_module(f"distill.commands.{name}")
    code: int = module.main(argv[1:])
    return code


def command_list(known: dict[str, str]) -> str:
    """Format the commands, one line each."""
    width = max(map(len, known), default=0)
    lines = [f"  {name.replace('_', '-'):{width}}  {summary}" for name, summary in known.items()]
    return "\n".join([USAGE, "", *lines, "", "symdistill COMMAND --help lists a command's arguments."])


def nearest(name: str, known: dict[str, str]) -> str:
    """Name the nearest command, if one is near."""
    from rapidfuzz import process

    match = process.extractOne(name, list(known), score_cutoff=60)
    return f"; the nearest is {str(match[0]).replace('_', '-')!r}" if match else ""


if __name__ == "__main__":
    sys.exit(main())
