"""Remember what was read of font files, in the user's cache, so that no run has to read all fonts again."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import features

from distill.data.records import user_cache
from distill.data.rendering.atlas import UnusableFontError, load_face
from students.extras import import_extra
from students.files import write_file

FILE = "fonts.json"
"""Name of the file in the user's cache."""
_VERSION = f"1, FreeType {features.version('freetype2')}"


@dataclass
class FontFacts:
    """What is known of one font file."""

    size: int
    """Bytes."""
    modified: int
    """Time of the last change in nanoseconds."""
    family: str = ""
    """Family as the file names it."""
    style: str = ""
    """Style as the file names it."""
    opens: bool = True
    """Whether FreeType opens it."""
    reason: str | None = None
    """Why it can't serve for any alphabet; None when it can, or was not looked at so closely."""
    characters: str | None = None
    """Code points that it maps to glyphs, as hexadecimal ranges (`20-7e,a0-17f`); None when they were not read."""

    def maps(self, characters: Iterable[str]) -> set[str]:
        """Return those of some characters that the font maps to glyphs."""
        bounds = [int(bound, 16) for bound in re.split("[-,]", self.characters or "") if bound]
        # The number of bounds at or below a code point is odd inside of a range; its last code point belongs to it.
        return {
            char for char in characters
            if (number := bisect_right(bounds, ord(char))) % 2 or (number and bounds[number - 1] == ord(char))
        }  # fmt: skip


class FontIndex:
    """Facts of font files by path, size and time of the last change.

    They lie in one JSON file in the user's cache, written by `save` when there is something new. A file that is
    damaged, or of another version, counts as none.

    Args:
        file: the file; None takes that in the user's cache.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or user_cache() / FILE
        self._facts = _read(self.file)
        self._changed: dict[str, FontFacts] = {}

    def facts(self, path: Path) -> FontFacts:
        """Return what is known of a font file, and read its names if it is new or has changed."""
        stat = path.stat()
        known = self._changed.get(str(path)) or self._facts.get(str(path))
        if known is not None and (known.size, known.modified) == (stat.st_size, stat.st_mtime_ns):
            return known
        facts = FontFacts(stat.st_size, stat.st_mtime_ns)
        try:
            facts.family, facts.style = (part or "" for part in load_face(path, 16).getname())
        except UnusableFontError as error:
            facts.opens, facts.reason = False, str(error)
        self._changed[str(path)] = facts
        return facts

    def characters(self, path: Path, candidates: Iterable[str]) -> set[str]:
        """Return those of some characters that a font file maps to glyphs.

        Raises:
            UnusableFontError: if the font is damaged.
        """
        facts = self.facts(path)
        if facts.characters is None and facts.reason is None:
            try:
                facts.characters = read_characters(path)
            except UnusableFontError as error:
                facts.reason = str(error)
            self._changed[str(path)] = facts
        if facts.reason is not None:
            raise UnusableFontError(facts.reason)
        return facts.maps(candidates)

    def reject(self, path: Path, reason: str) -> None:
        """Note why a font can't serve for any alphabet."""
        facts = self.facts(path)
        facts.reason = reason
        self._changed[str(path)] = facts

    def save(self) -> None:
        """Add new facts to the file, which other processes may have written to; skip a cache that can't be written."""
        if not self._changed:
            return
        facts = {**_read(self.file), **self._changed}
        fonts = {path: asdict(each) for path, each in sorted(facts.items()) if Path(path).is_file()}
        with contextlib.suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_file(self.file, json.dumps({"version": _VERSION, "fonts": fonts}, ensure_ascii=False))
            self._facts, self._changed = facts, {}


def read_characters(path: Path) -> str:
    """Read the code points that a font maps to glyphs, as `FontFacts.characters`.

    Raises:
        UnusableFontError: if the font is damaged.
    """
    import_extra("fontTools", "rendering words")
    from fontTools.ttLib import TTFont, TTLibError

    logging.getLogger("fontTools").setLevel(logging.CRITICAL)  # what is wrong with a font is said by `FontFacts.reason`
    try:
        with TTFont(path, lazy=True, fontNumber=0) as font:
            cmap = font.getBestCmap() or {}
            codes = sorted(code for code, name in cmap.items() if name != ".notdef")
    except (TTLibError, OSError, KeyError, ValueError, AssertionError, AttributeError, IndexError) as error:
        raise UnusableFontError(f"is damaged ({type(error).__name__})") from error
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return ",".join(f"{first:x}-{last:x}" for first, last in ranges)


def _read(file: Path) -> dict[str, FontFacts]:
    """Read the file; what is damaged in it is left out."""
    facts: dict[str, FontFacts] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if stored["version"] != _VERSION:
            return {}
        for path, values in stored["fonts"].items():
            with contextlib.suppress(TypeError):
                font = FontFacts(**values)
                numbers, texts = (font.size, font.modified, font.opens), (font.family, font.style)
                optional = (font.reason, font.characters)
                if (
                    all(isinstance(number, int) for number in numbers)
                    and all(isinstance(text, str) for text in texts)
                    and all(text is None or isinstance(text, str) for text in optional)
                    and re.fullmatch(r"([0-9a-f]{1,6}-[0-9a-f]{1,6}(,|$))*", font.characters or "")
                ):
                    facts[path] = font
    return facts
