"""Render synthetic scene words to an LMDB, with the character under each 32nd of the width as a training aid."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from distill.commands import CommandParser, integer, number
from distill.data.progress import PLAIN
from distill.data.rendering.render_set import RenderRequest, describe_renderer, rendering_warnings, write_set
from distill.data.sheets import CELL, INK, SheetItem, write_sheet
from distill.data.writing import check_lmdb_folder
from distill.errors import exit_on_user_error
from students.charset import Charset
from students.errors import UserError
from students.files import check_file

LINE_CELL_WIDTH = 520
"""Width of a line on a sheet, pixels."""


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    command = CommandParser(prog="render_words", description=__doc__)
    command.add_argument("--out", type=Path, help="folder for the LMDB and recipe.json; must not exist")
    command.add_argument("--words", type=integer(1), default=100, help="how many (default 100, enough for a sheet)")
    command.add_argument("--seed", type=integer(0), default=0)
    command.add_argument(
        "--workers", type=integer(1), default=os.cpu_count() or 1, help="processes (default: one per core)"
    )
    command.add_argument("--fonts", type=Path, nargs="+", default=[], help="further folders of fonts, with all below")
    command.add_argument("--no-system-fonts", action="store_true", help="leave the system's font folders out")
    command.add_argument("--max-fonts", type=integer(1), default=400, help="how many fonts at most, chosen by seed")
    command.add_argument(
        "--split", choices=("train", "test", "all"), default="train", help="test: held-out words and fonts, none twice"
    )
    command.add_argument(
        "--difficulty",
        type=number(0, 1),
        default=1.0,
        help="0 (plain) to 1 (blur and bend as in real crops)",
    )
    command.add_argument(
        "--style", choices=("sign", "street"), default="sign", help="street: nearer to real crops (default: sign)"
    )
    command.add_argument(
        "--charset", default="94", help="36, 62, 94, 95 or a file: characters that may occur (any case)"
    )
    command.add_argument(
        "--languages", nargs="+", default=[], metavar="CODE",
        help="languages of the words, such as de ru (default: en, or those that an alphabet beyond ASCII asks for)",
    )  # fmt: skip
    command.add_argument(
        "--line-words", type=integer(1), nargs=2, default=(1, 1), metavar=("FEWEST", "MOST"),
        help="words of a line, with spaces between them (1 1)",
    )  # fmt: skip
    command.add_argument(
        "--max-length", type=integer(1), default=60, metavar="N", help="longest label in characters (60)"
    )
    command.add_argument("--sheet", type=Path, help="also draw the first 100 words as a PNG")
    command.add_argument("--overwrite", action="store_true", help="replace what is there")
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command."""
    arguments = parser().parse_args(argv)
    _check(arguments)
    console = Console(**PLAIN)
    request = RenderRequest(
        words=arguments.words,
        split=arguments.split,
        seed=arguments.seed,
        charset=Charset.load(arguments.charset).characters,
        fonts=tuple(map(str, arguments.fonts)),
        system_fonts=not arguments.no_system_fonts,
        max_fonts=arguments.max_fonts,
        difficulty=arguments.difficulty,
        languages=tuple(arguments.languages),
        style=arguments.style,
        line_words=tuple(arguments.line_words),
        max_length=arguments.max_length,
    )
    progress = Console(stderr=True)
    renderer, fonts = request.build_renderer(progress)
    console.print(
        f"{len(fonts.fonts):,} fonts of {len(fonts.families):,} families; {len(fonts.dropped):,} left out "
        f"({'recipe.json says why' if arguments.out is not None else 'with --out recipe.json says why'})"
    )
    for folder in arguments.fonts:
        used = sum(Path(font.path).is_relative_to(folder) for font in fonts.fonts)
        console.print(f"  {used:,} of them from {folder}")
    console.print(f"words of: {', '.join(renderer.words.languages) or 'no language, random strings'}")
    for line in rendering_warnings(describe_renderer(request, renderer, fonts)):
        console.print(line)
    if arguments.sheet is not None:
        words = (renderer.render(index) for index in range(min(100, arguments.words)))
        across = (10, CELL[0]) if request.line_words == (1, 1) else (3, LINE_CELL_WIDTH)
        write_sheet(arguments.sheet, [("", [SheetItem(word.image, [(word.label, INK)]) for word in words])], *across)
        console.print(f"sheet: {arguments.sheet}")
    if arguments.out is not None:
        recipe = write_set(request, renderer, fonts, arguments.out, arguments.workers, arguments.overwrite, progress)
        rate, seconds = recipe["words_per_second"], recipe["seconds"]
        console.print(f"{arguments.words:,} words in {arguments.out}, {seconds:.0f} s, {rate:,.0f} words/s")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out is None and arguments.sheet is None:
        raise UserError("nothing to do; give --out DIR, --sheet PNG or both")
    if arguments.line_words[0] > arguments.line_words[1]:
        raise UserError("--line-words needs fewest and most words, such as 1 6")
    if arguments.out is not None:
        check_lmdb_folder(arguments.out, arguments.overwrite)
    if arguments.sheet is not None:
        if arguments.sheet.suffix.lower() != ".png":
            raise UserError(f"--sheet {arguments.sheet} is no PNG; a name that ends in .png would work")
        if arguments.out is not None and arguments.sheet.resolve().is_relative_to(arguments.out.resolve()):
            raise UserError(f"--sheet {arguments.sheet} lies in {arguments.out}, which holds the words alone; move it")
        check_file(arguments.sheet, "--sheet", arguments.overwrite)
