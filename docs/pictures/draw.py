"""Draw the pictures of the documentation again: `make pictures`, or `python -m docs.pictures.draw NAME`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from distill.commands import compare
from distill.errors import exit_on_user_error
from docs.pictures import method, pages, words
from students.errors import UserError

HERE = Path(__file__).resolve().parent
RUN = HERE.parent.parent / "runs" / "quickstart"
"""The run whose learning curves are shown."""


def draw_curves(folder: Path, run: Path = RUN) -> list[Path]:
    """Write curve-steps.svg of a finished run and its baseline into a folder.

    The curve against time, which `compare` draws too, tells more of the machine than of the method.

    Raises:
        UserError: when the run is not there, or not finished.
    """
    if not (run / "report.json").is_file():
        raise UserError(f"{run} is no finished run; make quickstart, or give another --run")
    with tempfile.TemporaryDirectory() as scratch:
        drawn = Path(scratch, "comparison")
        if compare.main([str(run), str(run / "baseline"), "--out", str(drawn), "--curves"]):
            raise UserError(f"{run} can't be compared with its baseline")
        return [Path(shutil.copy(drawn / "curve-steps.svg", folder))]


SUBJECTS: dict[str, Callable[[Path], list[Path]]] = {
    "method": method.draw, "words": words.draw, "curves": draw_curves, "report": pages.draw_report,
    "demo": pages.draw_demo,
}  # fmt: skip
"""What can be drawn, by its name on the command line."""


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> int:
    """Draw what is named; or everything, but for what this machine lacks something for."""
    command = argparse.ArgumentParser(prog="draw", description=__doc__)
    command.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(SUBJECTS)} (default: all)")
    command.add_argument("--out", type=Path, default=HERE, help="folder of the pictures (default: docs/pictures)")
    command.add_argument("--run", type=Path, default=RUN, help="run whose curves are drawn (default: runs/quickstart)")
    given = command.parse_args(argv)
    for name in given.names:
        if name not in SUBJECTS:
            raise UserError(f"{name} is no picture; choose among {', '.join(SUBJECTS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.names or SUBJECTS:
        try:
            files = draw_curves(given.out, given.run) if name == "curves" else SUBJECTS[name](given.out)
        except UserError as error:
            if given.names:
                raise
            print(f"left out: {name}: {error}")
        else:
            print("wrote " + ", ".join(map(str, files)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
