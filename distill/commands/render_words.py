"""Render synthetic scene words to an LMDB, with the character under each 32nd of the width as a training aid."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from distill.data.fonts import FontChoice, choose_fonts
from distill.data.rendered import Record, render_records, test_labels, write_records
from distill.data.rendering.renderer import WordRenderer
from distill.data.rendering.sheet import draw_sheet
from distill.errors import exit_on_user_error
from students.charset import Charset
from students.errors import UserError


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    command = argparse.ArgumentParser(prog="render_words", description=__doc__)
    command.add_argument("--out", type=Path, help="folder for the LMDB and recipe.json; must not exist")
    command.add_argument("--words", type=int, default=100, help="how many (default 100, enough for a sheet)")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    command.add_argument("--fonts", type=Path, nargs="+", default=[], help="further folders of fonts, with all below")
    command.add_argument("--no-system-fonts", action="store_true", help="leave the system's font folders out")
    command.add_argument("--max-fonts", type=int, default=400, help="how many fonts at most, chosen by seed")
    command.add_argument(
        "--split", choices=("train", "test", "all"), default="train", help="test: held-out words and fonts, none twice"
    )
    command.add_argument("--charset", default="94", help="36, 62, 94 or a file: characters that may occur (any case)")
    command.add_argument("--sheet", type=Path, help="also draw the first 100 words as a PNG")
    command.add_argument("--overwrite", action="store_true", help="replace what is there")
    return command


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = parser().parse_args(argv)
    _check(arguments)
    console = Console()
    charset = allowed_characters(arguments.charset)
    console.print("looking for fonts")
    choice = choose_fonts(
        arguments.fonts,
        split=arguments.split,
        seed=arguments.seed,
        system=not arguments.no_system_fonts,
        max_fonts=arguments.max_fonts,
    )
    labels = test_labels(arguments.words, arguments.seed, arguments.split, charset)
    renderer = WordRenderer(choice.fonts, arguments.seed, arguments.split, charset, labels)
    console.print(
        f"{len(choice.fonts)} fonts of {len(choice.families)} families, {len(choice.dropped)} dropped (recipe.json says why)"
    )
    if arguments.sheet is not None:
        draw_sheet([renderer.render(index) for index in range(min(100, arguments.words))]).save(arguments.sheet)
        console.print(f"sheet: {arguments.sheet}")
    if arguments.out is not None:
        _render(arguments, renderer, choice, console)
    return 0


def allowed_characters(name: str) -> str:
    """Name the characters that may be drawn for a charset; both cases where it has one (labels keep their case)."""
    characters = Charset.load(name).characters
    return "".join(sorted(set(characters) | set(characters.lower()) | set(characters.upper())))


def _check(arguments: argparse.Namespace) -> None:
    if arguments.out is None and arguments.sheet is None:
        raise UserError("nothing to do; give --out DIR, --sheet PNG or both")
    if arguments.words < 1:
        raise UserError(f"--words is {arguments.words}; at least 1 would work")
    if arguments.max_fonts < 1 or arguments.workers < 1:
        raise UserError("--max-fonts and --workers need at least 1")
    if arguments.out is not None and arguments.out.exists() and not arguments.overwrite:
        raise UserError(f"{arguments.out} exists; give another --out or --overwrite")
    if arguments.sheet is not None and arguments.sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet {arguments.sheet} is no PNG; a name that ends in .png would work")


def _render(arguments: argparse.Namespace, renderer: WordRenderer, choice: FontChoice, console: Console) -> None:
    """Render into a folder beside the target, and rename it when all is there."""
    out: Path = arguments.out
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        start = time.perf_counter()
        records = render_records(renderer, arguments.words, arguments.workers)
        write_records(beside, _shown(records, arguments.words, console))
        seconds = time.perf_counter() - start
        recipe = describe(arguments, choice, seconds)
        (beside / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
        (beside / "lock.mdb").unlink(missing_ok=True)
        beside.chmod(0o755)
        if out.exists():
            shutil.rmtree(out) if out.is_dir() else out.unlink()
        beside.rename(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    console.print(f"{arguments.words} words in {out}, {seconds:.0f} s, {recipe['words_per_second']:.0f} words/s")


def _shown(records: Iterator[Record], words: int, console: Console) -> Iterator[Record]:
    """Show progress while records pass; plain lines where it isn't a terminal."""
    if not console.is_terminal:
        step, start = max(1, words // 20), time.perf_counter()
        for count, record in enumerate(records, 1):
            if count % step == 0:
                console.print(f"{count}/{words} words, {count / (time.perf_counter() - start):.0f} words/s")
            yield record
        return
    speed = TextColumn("{task.speed:.0f} words/s")
    with Progress(TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn()) as progress:
        task = progress.add_task("rendering", total=words)
        for record in records:
            progress.advance(task)
            yield record


def describe(arguments: argparse.Namespace, choice: FontChoice, seconds: float) -> dict[str, Any]:
    """Say how the words were made, for recipe.json."""
    return {
        "schema": 1,
        "words": arguments.words,
        "seed": arguments.seed,
        "split": arguments.split,
        "charset": arguments.charset,
        "fonts": [font.name for font in choice.fonts],
        "families": list(choice.families),
        "dropped": choice.dropped,
        "workers": arguments.workers,
        "seconds": round(seconds, 1),
        "words_per_second": round(arguments.words / max(seconds, 1e-9), 1),
    }
