"""A set of rendered words on disk: an LMDB and recipe.json, which says how the words were made."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from distill.data.fonts import FontChoice, choose_fonts
from distill.data.progress import followed
from distill.data.rendered import render_records, test_labels
from distill.data.rendering.renderer import WordRenderer
from distill.data.words import Split
from distill.data.writing import LmdbWriter
from distill.locks import one_at_a_time
from students.charset import Charset
from students.errors import UserError
from students.files import write_file

RECIPE = "recipe.json"
"""What says, beside the LMDB, how its words were made."""


@dataclass(frozen=True)
class RenderRequest:
    """What is to be rendered."""

    words: int
    """How many."""
    split: Split
    """`train`, `test` (held-out words and fonts, no word twice) or `all`."""
    seed: int = 0
    """The same seed gives the same words, whatever the number of workers."""
    charset: str = "94"
    """Alphabet whose characters may occur, in any case: 36, 62, 94 or a file."""
    fonts: tuple[str, ...] = ()
    """Further folders of fonts, with all below."""
    system_fonts: bool = True
    """Use the fonts that the system has."""
    max_fonts: int = 400
    """How many fonts at most, chosen by seed."""
    difficulty: float = 1.0
    """How hard the street is on the words, 0 to 1; 1 is as varied as real crops."""

    @property
    def characters(self) -> str:
        """Characters that may be drawn."""
        return both_cases(Charset.load(self.charset).characters)

    def prepare(self) -> tuple[WordRenderer, FontChoice]:
        """Look for fonts and build the renderer.

        Raises:
            UserError: when a font folder is missing, no font is left, or there are too few held-out words.
        """
        choice = choose_fonts(
            self.fonts, split=self.split, seed=self.seed, system=self.system_fonts, max_fonts=self.max_fonts
        )
        labels = test_labels(self.words, self.seed, self.split, self.characters)
        return WordRenderer(choice.fonts, self.seed, self.split, self.characters, labels, self.difficulty), choice


def both_cases(characters: str) -> str:
    """Add the other case of each character: pictures have both, and labels keep theirs."""
    return "".join(sorted(set(characters) | set(characters.lower()) | set(characters.upper())))


def render_once(request: RenderRequest, folder: Path, workers: int = 0) -> dict[str, Any]:
    """Render a set unless it is there, and give its recipe; of processes that want it now one renders, others wait.

    Raises:
        UserError: when it can't be rendered, or `folder` is something else.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder.with_name(f".{folder.name}.lock")):
            if not (folder / "data.mdb").is_file():
                return write_set(request, *request.prepare(), folder, workers)
    except OSError as error:
        raise UserError(f"{folder} can't be written ({error}); give another folder, or make room") from None
    recipe: dict[str, Any] = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    return recipe


def write_set(
    request: RenderRequest, renderer: WordRenderer, choice: FontChoice, folder: Path, workers: int = 0,
    overwrite: bool = False, console: Console | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Render a set into `folder`, which appears when it is whole; gives its recipe.

    Args:
        request: what is rendered.
        renderer: as `request.prepare` gave it.
        choice: likewise.
        folder: the LMDB's folder.
        workers: rendering processes; 0 takes one a core.
        overwrite: replace an LMDB that is there.
        console: where progress is shown.

    Raises:
        UserError: when the folder exists and `overwrite` was not asked for.
    """
    started = time.perf_counter()
    workers = workers or os.cpu_count() or 1
    with LmdbWriter(folder, overwrite) as writer:
        records = render_records(renderer, request.words, workers)
        for record in followed(records, request.words, "rendering words", console):
            writer.add(record.image, record.label, record.columns)
    seconds = time.perf_counter() - started
    recipe = {
        "schema": 1,
        **dataclasses.asdict(request),
        "font_folders": list(request.fonts),
        "fonts": [font.name for font in choice.fonts],
        "families": list(choice.families),
        "dropped": choice.dropped,
        "workers": workers,
        "seconds": round(seconds, 1),
        "words_per_second": round(request.words / max(seconds, 1e-9), 1),
    }
    write_file(folder / RECIPE, json.dumps(recipe, indent=1) + "\n")
    return recipe
