"""Usable fonts: where they are, which of them draw readable letters, and which families are held out for testing."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import string
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from random import Random

import numpy as np

from distill.data.rendering import legibility
from distill.data.rendering.atlas import FontAtlas, UnusableFontError, draw_glyphs, load_face
from distill.data.rendering.vocabulary import Split
from distill.errors import import_extra
from students.errors import UserError

ALNUM = string.digits + string.ascii_letters
DRAWN = ALNUM + string.punctuation
HELD_OUT_SHARE = 8
MIN_HELD_OUT = 3
MIN_READ, MIN_LIKENESS = 0.4, 0.46
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


@dataclass(frozen=True)
class FontChoice:
    """The fonts of a split, and what was left out.

    Attributes:
        fonts: usable fonts with their glyphs, sorted by path.
        dropped: file name to the reason it was dropped.
    """

    fonts: tuple[FontAtlas, ...]
    dropped: dict[str, str] = field(default_factory=dict)

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
    """Choose the families kept for testing: those with a fixed hash in one eighth, but at least three.

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
        UserError: if a given folder doesn't exist.
    """
    matplotlib = import_extra("matplotlib", "rendering words")
    roots = [Path(matplotlib.get_data_path()) / "fonts" / "ttf", *packaged_fonts()]
    if system:
        roots += [Path(os.path.expanduser(folder)) for folder in SYSTEM_FOLDERS]
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"font folder {folder} does not exist; name a folder that holds .ttf or .otf files")
        roots.append(Path(folder))
    found = {path for root in roots if root.is_dir() for path in root.rglob("*") if _is_font(path)}
    return sorted(found)


def packaged_fonts() -> list[Path]:
    """List the folders of installed Python packages that offer fonts (entry points `fonts_ttf` and `fonts_otf`)."""
    modules = {point.module for group in ("fonts_ttf", "fonts_otf") for point in entry_points(group=group)}
    specs = [importlib.util.find_spec(module) for module in sorted(modules)]
    return [Path(place) for spec in specs if spec for place in spec.submodule_search_locations or ()]


def _is_font(path: Path) -> bool:
    return path.suffix.lower() in (".ttf", ".otf", ".ttc") and path.is_file()


def choose_fonts(
    folders: Sequence[str | Path] = (),
    *,
    split: Split = "all",
    seed: int = 0,
    system: bool = True,
    max_fonts: int = 400,
    per_family: int = 4,
) -> FontChoice:
    """Find, check and draw the fonts of a split.

    Args:
        folders: further folders, searched with all below them.
        split: `test` takes the held-out families only, `train` the others.
        seed: decides which fonts stay when there are more than `max_fonts`, or `per_family` of one design.
        system: search the system's font folders too.
        max_fonts: how many fonts at most (an atlas takes some 60 kB).
        per_family: how many fonts of one design at most.

    Raises:
        UserError: if a folder doesn't exist or no font is left.
    """
    dropped: dict[str, str] = {}
    families = _by_family(font_files(folders, system), dropped)
    held_out = held_out_families(families)
    if split != "all":
        families = {f: v for f, v in families.items() if (f in held_out) == (split == "test")}
    random = Random(f"fonts {seed}")
    names = sorted(families)
    random.shuffle(names)
    checked: list[tuple[FontAtlas, np.ndarray]] = []
    for family in names:
        files = sorted(families[family])
        random.shuffle(files)
        kept = 0
        for path, name in files:
            if kept == per_family or len(checked) >= max_fonts * 3 // 2:
                break
            try:
                checked.append(_draw(path, family, name))
                kept += 1
            except UnusableFontError as error:
                dropped[path.name] = str(error)
    fonts = _readable(checked, dropped)[:max_fonts]
    if not fonts:
        raise UserError("no usable font found; give a folder of Latin .ttf or .otf files with --fonts")
    return FontChoice(tuple(sorted(fonts, key=lambda font: font.path)), dropped)


def _by_family(files: Iterable[Path], dropped: dict[str, str]) -> dict[str, list[tuple[Path, str]]]:
    families: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for path in files:
        try:
            family, style = (part or "" for part in load_face(path, 16).getname())
        except UnusableFontError as error:
            dropped[path.name] = str(error)
            continue
        name = f"{family} {style}".strip()
        if SYMBOLS.search(name) or SYMBOLS.search(path.stem):
            dropped[path.name] = "symbols, by its name"
        else:
            families[family_key(family or path.stem)].append((path, name))
    return families


def _draw(path: Path, family: str, name: str) -> tuple[FontAtlas, np.ndarray]:
    """Draw a font's glyphs and check them by themselves: there, not empty, not all the same box."""
    mapped = _mapped_characters(path)
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
    atlas = FontAtlas(str(path), family, name, glyphs, caseless=legibility.repeats_capitals(shaped))
    return atlas, shaped


def _mapped_characters(path: Path) -> set[str]:
    import_extra("fontTools", "rendering words")
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with TTFont(path, lazy=True, fontNumber=0) as font:
            cmap = font.getBestCmap() or {}
            return {c for c in DRAWN if cmap.get(ord(c), ".notdef") != ".notdef"}
    except (TTLibError, OSError, KeyError, ValueError, AssertionError, AttributeError, IndexError) as error:
        raise UnusableFontError(f"is damaged ({type(error).__name__})") from error


def _readable(checked: Sequence[tuple[FontAtlas, np.ndarray]], dropped: dict[str, str]) -> list[FontAtlas]:
    """Drop fonts that don't look like letters, and repetitions; weight the others by how typical they are."""
    if not checked:
        return []
    slanted = [bool(_SLANTED.search(font.name)) for font, _ in checked]
    scores = legibility.compare([s for _, s in checked], [font.caseless for font, _ in checked], slanted)
    kept: list[FontAtlas] = []
    seen: dict[bytes, str] = {}
    for (font, shaped), score in zip(checked, scores, strict=True):
        baseline = seen.setdefault(np.round(shaped * 50).astype(np.int8).tobytes(), font.name)
        file = Path(font.path).name
        if score.read < MIN_READ or score.likeness < MIN_LIKENESS:
            dropped[file] = f"hard to read (nearest shape right {score.read:.2f}, like {score.likeness:.2f})"
        elif baseline != font.name:
            dropped[file] = f"draws the same as {baseline}"
        else:
            kept.append(replace(font, weight=float(np.clip((score.likeness - 0.35) / 0.45, 0.15, 1.0))))
    return kept
