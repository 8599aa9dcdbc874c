"""Find usable fonts: where they are, which of them draw readable letters, which families are held out for testing."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from random import Random

import matplotlib as mpl
import numpy as np
from rich.console import Console

from distill.data.progress import followed
from distill.data.rendering import legibility
from distill.data.rendering.atlas import FontAtlas, UnusableFontError, draw_glyphs
from distill.data.rendering.font_index import FontIndex
from distill.data.rendering.labels import Split
from students.errors import UserError

ALNUM = string.digits + string.ascii_letters
DRAWN = ALNUM + string.punctuation
HELD_OUT_SHARE = 8
MIN_HELD_OUT = 3
MIN_READ, MIN_LIKENESS = 0.4, 0.46
FONTS_OF_A_CHARACTER = 8
"""Fonts that are taken for a character beyond ASCII, where there are so many."""
SYSTEM_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.fonts",
    "~/.local/share/fonts",
    "/Library/Fonts",
    "/System/Library/Fonts",
    "C:/Windows/Fonts",
)
# Symbol fonts pass a cmap test: they map letters to pictures.
SYMBOLS = re.compile(
    r"last ?resort|^cm(ex|sy|mi|bsy|mib)\d|^(eu|ms|st|la|wa)(ex|sy|fm|rm)\d|stix(size|nonuni|int|var)|"
    r"stix.*(math|sym)|symbol|"
    r"d050000l|dingbat|line ?dings|keyboard|emoji|icons?\b|awesome|webdings|wingdings|\bmath\b|\bmusic|musix|braille|"
    r"barcode|\bocr ?[ab]?\b.*bar|chess|domino|poker|circuit|logo|ornament|initials|bullet|\barrow|blank|redact|"
    r"skyline|fleuron|astrolog|mahjong|hieroglyph|cuneiform|rune|tengwar|cirth|klingon|fraktur(?!.*sans)|typicons|fontello|feather",
    re.IGNORECASE,
)
_STYLE_WORDS = re.compile(
    r"\b(regular|roman|book|medium|thin|hairline|extra|ultra|semi|demi|light|bold|black|heavy|italic|oblique|slanted|"
    r"condensed|compressed|narrow|expanded|extended|wide|display|caption|text|subhead|headline|deck|micro|poster|poly|"
    r"outline|nf|pro|std|otf|ttf|gx|vf|variable|\d+(pt)?)\b",
    re.IGNORECASE,
)
_SLANTED = re.compile(r"italic|oblique|slanted|script|chancery", re.IGNORECASE)


Family = tuple[str, Sequence[tuple[Path, str]]]
"""A design by its key, and its files with the names that they give themselves."""


@dataclass(frozen=True)
class FontChoice:
    """The fonts of a split, and what was left out.

    Attributes:
        fonts: usable fonts with their glyphs, sorted by path.
        dropped: file name to the reason it was dropped.
        undrawn: characters asked for that no font draws.
        borrowed: characters that only fonts of the other split draw, which were taken for them.
    """

    fonts: tuple[FontAtlas, ...]
    dropped: dict[str, str] = field(default_factory=dict)
    undrawn: str = ""
    borrowed: str = ""

    @property
    def families(self) -> tuple[str, ...]:
        """Name the families of the fonts, sorted, once each."""
        return tuple(sorted({font.family for font in self.fonts}))


def family_key(family: str) -> str:
    """Name the design behind a family name: without weights, widths and sizes, so that no design is on both sides.

    `Roboto Condensed` and `Roboto` are one, so are all of Noto Sans (their Latin letters are the same).
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z0-9])|[-_.,]+", " ", family)
    words = re.sub(r"\s+", " ", _STYLE_WORDS.sub(" ", spaced)).strip().lower().split()
    if words[:1] == ["noto"]:
        words = words[:2]
    return " ".join(words) or family.strip().lower()


def held_out_families(families: Iterable[str]) -> frozenset[str]:
    """Choose the families that are held out for testing: those with a fixed hash in one eighth, but at least three.

    The hash of a family never changes, so a family held out among few fonts that isn't among many is at worst unused.
    """
    ranked = sorted((_family_rank(family), family) for family in set(families))
    chosen = [family for rank, family in ranked if rank[0] == 0]
    return frozenset(chosen if len(chosen) >= MIN_HELD_OUT else [family for _, family in ranked[:MIN_HELD_OUT]])


def _family_rank(family: str) -> tuple[int, int]:
    digest = hashlib.blake2b(family.encode(), digest_size=8, person=b"heldout-font").digest()
    value = int.from_bytes(digest, "big")
    return value % HELD_OUT_SHARE, value


def font_files(folders: Sequence[str | Path] = (), system: bool = True) -> list[Path]:
    """List font files (.ttf, .otf, .ttc) of matplotlib, of font packages, the system and further folders, sorted.

    Raises:
        UserError: if a given folder doesn't exist, or has no font.
    """
    roots = [matplotlib_fonts(), *packaged_fonts()]
    if system:
        roots += [Path(os.path.expanduser(folder)) for folder in SYSTEM_FOLDERS]
    for folder in folders:
        if not Path(folder).is_dir():
            what = "is a file" if Path(folder).exists() else "does not exist"
            raise UserError(f"font folder {folder} {what}; name a folder that holds .ttf or .otf files")
        if not any(map(_is_font, Path(folder).rglob("*"))):
            raise UserError(f"font folder {folder} holds no .ttf, .otf or .ttc file; name another, or leave it out")
        roots.append(Path(folder))
    return sorted({path for root in roots if root.is_dir() for path in root.rglob("*") if _is_font(path)})


def matplotlib_fonts() -> Path:
    """Return the folder of matplotlib's fonts."""
    return Path(mpl.get_data_path()) / "fonts" / "ttf"


def packaged_fonts() -> list[Path]:
    """List the folders of installed Python packages that offer fonts (entry points `fonts_ttf` and `fonts_otf`)."""
    modules = {point.module for group in ("fonts_ttf", "fonts_otf") for point in entry_points(group=group)}
    specs = [importlib.util.find_spec(module) for module in sorted(modules)]
    return [Path(folder) for spec in specs if spec for folder in spec.submodule_search_locations or ()]


def _is_font(path: Path) -> bool:
    return path.suffix.lower() in (".ttf", ".otf", ".ttc") and path.is_file()


def choose_fonts(
    folders: Sequence[str | Path] = (), *, split: Split = "all", seed: int = 0, system: bool = True,
    max_fonts: int = 400, per_family: int = 4, characters: str = "", console: Console | None = None,
) -> FontChoice:  # fmt: skip
    """Find, check and draw the fonts of a split.

    Args:
        folders: further folders, searched with all below them.
        split: `test` takes the held-out families only, `train` the others.
        seed: decides which fonts stay when there are more than `max_fonts`, or `per_family` of one design.
        system: search the system's font folders too.
        max_fonts: how many fonts at most (an atlas takes some 60 kB); those for rare characters come on top.
        per_family: how many fonts of one design at most.
        characters: what is to be drawn beside printable ASCII. Of fonts that have rare ones of them, some are taken in
            any case; of the other split's where its own have none.
        console: where progress is shown.

    Raises:
        UserError: if a folder doesn't exist or no font is left.
    """
    search = _Search(max_fonts, per_family, "".join(sorted(set(characters) - set(DRAWN))))
    families = search.by_family(font_files(folders, system), console)
    held_out = held_out_families(families)
    others: dict[str, list[tuple[Path, str]]] = {}
    if split != "all":
        others = {f: v for f, v in families.items() if (f in held_out) != (split == "test")}
        families = {f: v for f, v in families.items() if f not in others}
    random = Random(f"fonts {seed}")
    names = sorted(families)
    random.shuffle(names)
    ordered = []
    for family in names:
        files = sorted(families[family])
        random.shuffle(files)
        ordered.append((family, files))
    search.check_families(ordered, console)
    search.add_for_rare(ordered, FONTS_OF_A_CHARACTER)
    borrowed = search.add_for_rare(sorted(others.items()), 1)
    search.index.save()
    fonts = search.readable()
    if not fonts:
        raise UserError("no usable font found; give a folder of Latin .ttf or .otf files with --fonts")
    drawn = set().union(*(font.glyphs for font in fonts))
    return FontChoice(
        tuple(sorted(fonts, key=lambda font: font.path)), search.dropped,
        undrawn="".join(char for char in search.extra if char not in drawn),
        borrowed="".join(char for char in search.extra if char in borrowed and char in drawn),
    )  # fmt: skip


class _Search:
    """Fonts that were looked at while some are chosen.

    Args:
        max_fonts: see `choose_fonts`.
        per_family: likewise.
        extra: characters beside printable ASCII.
    """

    def __init__(self, max_fonts: int, per_family: int, extra: str) -> None:
        self.max_fonts, self.per_family, self.extra = max_fonts, per_family, extra
        self.index = FontIndex()
        self.dropped: dict[str, str] = {}
        self.checked: list[tuple[FontAtlas, np.ndarray]] = []
        self.for_rare: set[str] = set()
        """Paths of the fonts that were taken for rare characters."""

    def by_family(self, files: Sequence[Path], console: Console | None) -> dict[str, list[tuple[Path, str]]]:
        """Sort font files by design, with the name of each; symbol fonts are dropped."""
        families: dict[str, list[tuple[Path, str]]] = defaultdict(list)
        for path in followed(files, len(files), "looking at fonts", console):
            try:
                facts = self.index.facts(path)
            except OSError as error:
                self.dropped[path.name] = f"can't be read ({error.strerror})"
                continue
            name = f"{facts.family} {facts.style}".strip()
            if not facts.opens:
                self.dropped[path.name] = facts.reason or ""
            elif SYMBOLS.search(name) or SYMBOLS.search(path.stem):
                self.dropped[path.name] = "symbols, by its name"
            else:
                families[family_key(facts.family or path.stem)].append((path, name))
        return families

    def check_families(self, families: Sequence[Family], console: Console | None) -> None:
        """Draw some fonts of each design until there are enough."""
        count = min(self.max_fonts * 3 // 2, sum(min(self.per_family, len(files)) for _, files in families))
        for _ in followed(self._check_some(families, count), count, "drawing fonts", console):
            pass

    def _check_some(self, families: Sequence[Family], count: int) -> Iterator[None]:
        for family, files in families:
            taken = 0
            for path, name in files:
                if len(self.checked) >= count:
                    return
                if taken < self.per_family and self._check(path, family, name):
                    taken += 1
                    yield

    def add_for_rare(self, families: Sequence[Family], fonts: int) -> set[str]:
        """Add fonts for characters that fewer than so many have, and return those of them that are drawn then."""
        counts = Counter(char for font, _ in self.checked for char in font.glyphs)
        rare = {char for char in self.extra if counts[char] < fonts}
        before, known = set(rare), {font.path for font, _ in self.checked}
        for family, files in families:
            for path, name in files:
                if not rare:
                    break
                if str(path) in known or path.name in self.dropped:
                    continue
                try:
                    useful = self.index.characters(path, rare)
                except UnusableFontError as error:
                    self.dropped[path.name] = str(error)
                    continue
                if useful and self._check(path, family, name):
                    self.for_rare.add(str(path))
                    counts.update(self.checked[-1][0].glyphs.keys())
                    rare = {char for char in rare if counts[char] < fonts}
        return {char for char in before if counts[char] > 0}

    def _check(self, path: Path, family: str, name: str) -> bool:
        try:
            self.checked.append(self._draw(path, family, name))
        except UnusableFontError as error:
            self.dropped[path.name] = str(error)
            return False
        return True

    def _draw(self, path: Path, family: str, name: str) -> tuple[FontAtlas, np.ndarray]:
        """Draw a font's glyphs and check them by themselves: there, not empty, not all the same box.

        Raises:
            UnusableFontError: saying what is wrong; the index notes it, whatever the alphabet.
        """
        mapped = self.index.characters(path, DRAWN + self.extra)
        try:
            missing = [c for c in ALNUM if c not in mapped]
            if missing:
                raise UnusableFontError(f"has no {missing[0]!r} ({len(missing)} letters and digits missing)")
            glyphs = draw_glyphs(path, [c for c in DRAWN if c in mapped])
            blank = [c for c in ALNUM if c not in glyphs]
            if blank:
                raise UnusableFontError(f"draws nothing for {blank[0]!r}")
            shaped = legibility.shapes(glyphs)
            if legibility.distinct_shapes(shaped) < 0.9:
                raise UnusableFontError("draws the same box for different characters")
            if min(glyphs["H"].ink.mean(), glyphs["O"].ink.mean()) < 12:
                raise UnusableFontError("lines too thin to see")
        except UnusableFontError as error:
            self.index.reject(path, str(error))
            raise
        extra = [char for char in self.extra if char in mapped]
        if extra:
            with contextlib.suppress(UnusableFontError):
                beyond_ascii = draw_glyphs(path, extra)
                boxes = legibility.repeated_boxes(beyond_ascii)
                glyphs.update({char: glyph for char, glyph in beyond_ascii.items() if char not in boxes})
        return FontAtlas(str(path), family, name, glyphs, caseless=legibility.repeats_capitals(shaped)), shaped

    def readable(self) -> list[FontAtlas]:
        """Return the fonts that look like letters, `max_fonts` at most and those for rare characters."""
        fonts = _readable(self.checked, self.dropped)
        first = [font for font in fonts if font.path not in self.for_rare][: self.max_fonts]
        return [*first, *(font for font in fonts if font.path in self.for_rare)]


def _readable(checked: Sequence[tuple[FontAtlas, np.ndarray]], dropped: dict[str, str]) -> list[FontAtlas]:
    """Drop fonts that don't look like letters, and repetitions; weight the others by how typical they are."""
    if not checked:
        return []
    slanted = [bool(_SLANTED.search(font.name)) for font, _ in checked]
    scores = legibility.compare([s for _, s in checked], [font.caseless for font, _ in checked], slanted)
    readable: list[FontAtlas] = []
    seen: dict[tuple[bytes, frozenset[str]], str] = {}
    for (font, shaped), score in zip(checked, scores, strict=True):
        beyond_ascii = frozenset(char for char in font.glyphs if not char.isascii())
        first = seen.setdefault((np.round(shaped * 50).astype(np.int8).tobytes(), beyond_ascii), font.name)
        file = Path(font.path).name
        if score.read < MIN_READ or score.likeness < MIN_LIKENESS:
            dropped[file] = f"hard to read (nearest shape right {score.read:.2f}, like {score.likeness:.2f})"
        elif first != font.name:
            dropped[file] = f"draws the same as {first}"
        else:
            readable.append(replace(font, weight=float(np.clip((score.likeness - 0.35) / 0.45, 0.15, 1.0))))
    return readable
