"""Draw the pictures of the documentation again: `make pictures`, or `python -m docs.pictures.draw NAME`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from distill.errors import exit_on_user_error
from docs.pictures import method, words
from students.errors import UserError

HERE = Path(__file__).resolve().parent
SUBJECTS: dict[str, Callable[[Path], list[Path]]] = {"method": method.draw, "words": words.draw}
"""What can be drawn, by its name on the command line."""


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> int:
    """Draw what is named, or everything."""
    command = argparse.ArgumentParser(prog="draw", description=__doc__)
    command.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SUBJECTS)} (default: all)")
    command.add_argument("--out", type=Path, default=HERE, help="folder of the pictures (default: this one)")
    given = command.parse_args(argv)
    for name in given.names:
        if name not in SUBJECTS:
            raise UserError(f"{name} is no picture; choose among {', '.join(SUBJECTS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.names or SUBJECTS:
        print("wrote " + ", ".join(map(str, SUBJECTS[name](given.out))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
