"""Render sets of words to disk: an LMDB, and recipe.json, which says how the words were made."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from rich.console import Console

from distill.data.columns import pack_columns
from distill.data.progress import followed
from distill.data.rendering.fonts import FontChoice, choose_fonts
from distill.data.rendering.labels import MAX_LENGTH, Split
from distill.data.rendering.renderer import WordRenderer
from distill.data.rendering.street import StreetRenderer
from distill.data.rendering.vocabulary import needs_shaping, written_share
from distill.data.sections import Style
from distill.data.writing import LmdbWriter
from distill.locks import one_at_a_time
from distill.workers import map_in_processes
from students.charset import Charset
from students.errors import UserError
from students.files import write_file

RECIPE = "recipe.json"
"""File beside the LMDB that says how its words were made."""
NAMED = 20
"""Characters that a warning lists."""
CHUNK = 100
"""Words that a rendering process hands over at a time."""
RENDERERS: dict[Style, type[WordRenderer]] = {"sign": WordRenderer, "street": StreetRenderer}


@dataclass(frozen=True)
class RenderRequest:
    """What is to be rendered; it stands in recipe.json."""

    words: int
    """How many."""
    split: Split
    """`train`, `test` (held-out words and fonts, no word twice) or `all`."""
    seed: int = 0
    """The same seed gives the same words, whatever the number of workers."""
    charset: str = Charset.load("94").characters
    """Characters that may occur, in any case."""
    fonts: tuple[str, ...] = ()
    """Further folders of fonts, with all below."""
    system_fonts: bool = True
    """Use the fonts that the system has."""
    max_fonts: int = 400
    """How many fonts at most, chosen by seed."""
    difficulty: float = 1.0
    """How hard the words are to read, 0 (plain) to 1 (as varied as real crops)."""
    languages: tuple[str, ...] = ()
    """wordfreq's codes of the languages of the words; empty: chosen by the charset."""
    style: Style = "sign"
    """`sign`, or `street`, which is nearer to real crops."""
    line_words: tuple[int, int] = (1, 1)
    """Fewest and most words of a line, with single spaces between them; (1, 1) renders single words."""
    max_length: int = MAX_LENGTH
    """Longest line in characters."""

    @property
    def characters(self) -> str:
        """Characters that may be drawn: both cases, because pictures have both, and labels keep theirs.

        The space is one where lines of several words are rendered.
        """
        characters = set(self.charset) | set(self.charset.lower()) | set(self.charset.upper())
        return "".join(sorted(characters - {" "} | ({" "} if self.line_words[1] > 1 else set())))

    def build_renderer(self, console: Console | None = None) -> tuple[WordRenderer, FontChoice]:
        """Look for fonts and build the renderer.

        Raises:
            UserError: when a font folder is missing, no font is left, or there are too few held-out words.
        """
        fonts = choose_fonts(
            self.fonts, split=self.split, seed=self.seed, system=self.system_fonts, max_fonts=self.max_fonts,
            characters=self.characters, console=console,
        )  # fmt: skip
        drawn = "".join(char for char in self.characters if char not in fonts.undrawn)
        renderer = RENDERERS[self.style](
            fonts.fonts, self.seed, self.split, drawn, difficulty=self.difficulty, languages=self.languages,
            line_words=self.line_words, max_length=self.max_length,
        )  # fmt: skip
        if self.split == "test":
            renderer.draw_labels(self.words)
        return renderer, fonts


class Record(NamedTuple):
    """What the LMDB stores for one word."""

    image: bytes
    label: str
    columns: bytes


def render_once(request: RenderRequest, folder: Path, workers: int = 0) -> dict[str, Any]:
    """Render a set unless it is there, and return its recipe; of processes that want it now one renders, others wait.

    Raises:
        UserError: when it can't be rendered, or `folder` is something else.
    """
    if not (folder / "data.mdb").is_file():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(folder.with_name(f".{folder.name}.lock")):
                if not (folder / "data.mdb").is_file():
                    return write_set(request, *request.build_renderer(), folder, workers)
        except OSError as error:
            raise UserError(f"{folder} can't be written ({error}); give another folder, or make room") from None
    try:
        recipe: dict[str, Any] = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # words of another program, which don't say how they were made
    return recipe


def write_set(
    request: RenderRequest, renderer: WordRenderer, fonts: FontChoice, folder: Path, workers: int = 0,
    overwrite: bool = False, console: Console | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Render a set into `folder`, which appears when it is whole; returns its recipe.

    Args:
        request: what is rendered.
        renderer: as `request.build_renderer` gave it.
        fonts: likewise.
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
            **describe_renderer(request, renderer, fonts),
            "workers": workers,
            "seconds": round(seconds, 1),
            "words_per_second": round(request.words / max(seconds, 1e-9), 1),
        }
        write_file(writer.beside / RECIPE, json.dumps(recipe, indent=1) + "\n")
    return recipe


def describe_renderer(request: RenderRequest, renderer: WordRenderer, fonts: FontChoice) -> dict[str, Any]:
    """Describe fonts and words for the recipe, and for `rendering_warnings`."""
    return {
        "fonts": [font.name for font in fonts.fonts],
        "families": list(fonts.families),
        "dropped": fonts.dropped,
        "languages": list(renderer.words.languages),
        "unwritten": [lang for lang in request.languages if written_share(lang, frozenset(request.charset)) < 0.5],
        "unshaped": "".join(char for char in request.charset if needs_shaping(char) and char != " "),
        "undrawn": "".join(c for c in request.charset if c in fonts.undrawn and not needs_shaping(c)),
        "borrowed": "".join(char for char in request.charset if char in fonts.borrowed),
        "without_spaces": " " in request.charset and request.line_words[1] == 1,
    }


def rendering_warnings(recipe: dict[str, Any]) -> list[str]:
    """Name the characters of the alphabet that rendered words lack, and those that were drawn with other fonts."""
    messages = [
        ("undrawn", "no font draws {}; rendered words lack them (fonts: folders of more of them)"),
        ("unshaped", "{} would have to be joined, stacked or set from right to left; rendered words lack them"),
        ("borrowed", "no held-out font draws {}; fonts of the training words do it in the validation words"),
    ]
    lines = [text.format(list_characters(recipe[key])) for key, text in messages if recipe.get(key)]
    if languages := recipe.get("unwritten"):
        lines.append(
            f"the alphabet writes little of the words of {', '.join(languages)}, which are drawn from the rest"
        )
    if recipe.get("without_spaces"):
        lines.append(
            "rendered words lack the space of the alphabet; data.synthetic.line_words (--line-words) renders lines"
        )
    return lines


def list_characters(characters: str) -> str:
    """Count and list characters: `2 characters (ж é)`."""
    named = " ".join(repr(char)[1:-1] if not char.isprintable() else char for char in characters[:NAMED])
    more = f" and {len(characters) - NAMED} more" if len(characters) > NAMED else ""
    noun = "character" if len(characters) == 1 else "characters"
    return f"{len(characters)} {noun} of the alphabet ({named}{more})"


def render_records(renderer: WordRenderer, words: int, workers: int) -> Iterator[Record]:
    """Render words 0 to `words` - 1 in some processes, and yield them in order."""
    chunks = [range(start, min(start + CHUNK, words)) for start in range(0, words, CHUNK)]
    if workers <= 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            for chunk in chunks:
                yield from _render_chunk(renderer, chunk)
        finally:
            cv2.setNumThreads(threads)
        return
    build, remedy = functools.partial(_build_worker, renderer), "take fewer --workers (data.synthetic.workers)"
    for records in map_in_processes(build, chunks, workers, remedy):
        yield from records


def _build_worker(renderer: WordRenderer) -> Callable[[range], list[Record]]:
    cv2.setNumThreads(1)
    return functools.partial(_render_chunk, renderer)


def _render_chunk(renderer: WordRenderer, chunk: range) -> list[Record]:
    words = [renderer.render(index) for index in chunk]
    return [Record(word.encode(), word.label, pack_columns(word.columns)) for word in words]
