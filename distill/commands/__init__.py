"""The commands: each module here is one, with its arguments and its `main(argv) -> int`; and what they share."""

from __future__ import annotations

import argparse
import ast
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from students.errors import UserError

if TYPE_CHECKING:
    from students.reading import Decoding

Number = TypeVar("Number", int, float)
MAY_BE_EMPTY = ("--terms", "--training", "--host")
"""Options whose empty value means something: text of a card as it was, all interfaces."""


def commands() -> dict[str, str]:
    """List every command with the first line of its module's docstring, without importing any."""
    folder = Path(__file__).parent
    summaries = {}
    for module in pkgutil.iter_modules([str(folder)]):
        source = (folder / f"{module.name}.py").read_text(encoding="utf-8")
        summaries[module.name] = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    return summaries


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are users' mistakes like others; the usage is left to `--help`."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(f"symdistill {prog.replace('_', '-')}", **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; raise `UserError` for an empty one, which as a path would be the folder that one is in."""
        args = list(sys.argv[1:] if args is None else args)
        for before, given in zip(["", *args], args, strict=False):
            option = before if given == "" else given.removesuffix("=") if before != "--" else ""
            empty = given == "" or (given.endswith("=") and given.startswith("--"))
            if empty and option not in MAY_BE_EMPTY:
                where = f" for {option}" if option.startswith("--") else ""
                raise UserError(f"an empty argument{where}; perhaps a variable isn't set: give a value")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise `UserError`."""
        raise UserError(f"{message}; --help lists the arguments")


def integer(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the `type` of an option that takes whole numbers from `least` to `most`."""
    return _bounded(int, "a whole number", least, most)


def number(least: float, most: float) -> Callable[[str], float]:
    """Return the `type` of an option that takes numbers from `least` to `most`."""
    return _bounded(float, "a number", least, most)


def _bounded(kind: Callable[[str], Number], noun: str, least: Number, most: Number | None) -> Callable[[str], Number]:
    wanted = f"{noun}, {least} or more" if most is None else f"{noun} from {least} to {most}"

    def parse(text: str) -> Number:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not (value >= least and (most is None or value <= most)):  # NaN is neither
            raise argparse.ArgumentTypeError(f"{text} won't do; give {wanted}")
        return value

    return parse


def add_run_options(parser: argparse.ArgumentParser, schema: type) -> None:
    """Add what starts, resumes and replaces a training, and `--help-config` for its keys, those of `schema`."""
    from distill.config_help import HelpConfig

    parser.add_argument(
        "--config", required=True, metavar="F", help="YAML file, or the name of a shipped configuration"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override one key of the configuration")
    parser.add_argument(
        "--resume", metavar="auto|DIR", help="continue the run in its folder, from the latest checkpoint or DIR"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run in the folder")
    parser.add_argument("--help-config", action=HelpConfig, schema=schema)


def add_plugin_option(parser: argparse.ArgumentParser) -> None:
    """Add `--plugin`, for readers and teachers of one's own."""
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="file or module that registers teachers, readers"
    )


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """Add `--nar` and `--refine-iters`, for readers that can decode in more than one way."""
    parser.add_argument("--nar", action="store_true", help="read all characters at once (PARSeq, CLIP4STR)")
    parser.add_argument(
        "--refine-iters", type=integer(0), metavar="N",
        help="read again N times with the earlier reading as context (PARSeq, CLIP4STR, students that refine)",
    )  # fmt: skip


def add_language_model_option(parser: argparse.ArgumentParser) -> None:
    """Add `--language-model`, for readers by CTC."""
    parser.add_argument(
        "--language-model", metavar="M",
        help="words that a CTC reader expects: european, a word list, labelled words, several with +, or none",
    )  # fmt: skip


def chosen_decoding(given: argparse.Namespace) -> tuple[Decoding | None, int | None]:
    """Return the decoding and the refinements that were asked for, None for what was not."""
    return ("nar" if given.nar else None), given.refine_iters
