"""The commands: each module here is one, with its arguments and its `main(argv) -> int`; and what they share."""

from __future__ import annotations

import argparse
import ast
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from students.errors import UserError

if TYPE_CHECKING:
    from students.reading import Decoding


def commands() -> dict[str, str]:
    """List every command with the first line of its module's docstring, without importing any."""
    folder = Path(__file__).parent
    summaries = {}
    for module in pkgutil.iter_modules([str(folder)]):
        source = (folder / f"{module.name}.py").read_text(encoding="utf-8")
        summaries[module.name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return summaries


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` that reports a wrong argument in one line and leaves the usage to `--help`."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong in one line on stderr and exit with code 2."""
        self.exit(2, f"error: {' '.join(message.split())}; --help lists the arguments\n")


def add_plugin_option(parser: argparse.ArgumentParser) -> None:
    """Add `--plugin`, for readers and teachers of one's own."""
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="file or module that registers teachers, readers"
    )


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """Add `--nar` and `--refine-iters`, for readers that can decode in more than one way."""
    parser.add_argument("--nar", action="store_true", help="read all characters at once (PARSeq, CLIP4STR)")
    parser.add_argument(
        "--refine-iters", type=int, metavar="N",
        help="read again N times with the earlier reading as context (PARSeq, CLIP4STR, students that refine)",
    )  # fmt: skip


def add_language_model_option(parser: argparse.ArgumentParser) -> None:
    """Add `--language-model`, for readers by CTC."""
    parser.add_argument(
        "--language-model", metavar="M",
        help="words that a CTC reader expects: european, a word list, labelled words, several with +, or none",
    )  # fmt: skip


def chosen_decoding(given: argparse.Namespace) -> tuple[Decoding | None, int | None]:
    """Return the decoding and the refinements that were asked for, None for what was not.

    Raises:
        UserError: for a number of refinements below 0.
    """
    if given.refine_iters is not None and given.refine_iters < 0:
        raise UserError(f"--refine-iters must be 0 or more, not {given.refine_iters}")
    return ("nar" if given.nar else None), given.refine_iters
