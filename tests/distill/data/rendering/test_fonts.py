"""Fonts: symbol fonts go, letters stay, and no design is on both sides of the hold-out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distill.data.rendering import legibility
from distill.data.rendering.atlas import CAP_HEIGHT, UnusableFontError, draw_glyphs
from distill.data.rendering.fonts import (
    FontChoice,
    choose_fonts,
    family_key,
    font_files,
    held_out_families,
    packaged_fonts,
)
from students.errors import UserError


@pytest.fixture(scope="module")
def shipped() -> FontChoice:
    return choose_fonts(system=False, per_family=20)


def test_matplotlibs_symbol_fonts_are_dropped(shipped: FontChoice) -> None:
    remaining = {Path(font.path).name for font in shipped.fonts if "matplotlib" in font.path}
    assert {"DejaVuSans.ttf", "STIXGeneral.ttf", "cmr10.ttf"} <= remaining
    assert not any(
        name.startswith(("LastResort", "cmex", "cmsy", "cmmi", "STIXSiz", "STIXNonUni")) for name in remaining
    )
    assert 12 <= len(remaining) <= 24
    assert "symbols" in shipped.dropped["cmsy10.ttf"]


def test_packages_that_offer_fonts_are_found(shipped: FontChoice) -> None:
    assert {"manrope", "source serif", "caladea"} <= set(shipped.families)
    assert all(folder.is_dir() for folder in packaged_fonts())


def test_glyphs_stand_on_one_line_at_one_size(shipped: FontChoice) -> None:
    for font in shipped.fonts:
        capital = font.glyphs["H"]
        assert abs(capital.ink.shape[0] - CAP_HEIGHT) <= 1
        assert abs(capital.top + CAP_HEIGHT) <= 1
        assert font.glyphs["p"].top + font.glyphs["p"].ink.shape[0] > 3 or font.caseless
        assert all(glyph.ink.max() > 100 for glyph in font.glyphs.values())


def test_splits_share_no_family() -> None:
    train, test = choose_fonts(system=False, split="train"), choose_fonts(system=False, split="test")
    assert not set(train.families) & set(test.families)
    assert len(test.families) >= 3
    assert len(train.families) >= 3


def test_held_out_families_do_not_depend_on_order() -> None:
    names = [f"family {i}" for i in range(400)]
    held = held_out_families(names)
    assert held == held_out_families(reversed(names))
    assert 25 < len(held) < 80
    assert held_out_families(names[:200]) <= held


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Roboto Condensed", "Roboto"),
        ("Noto Sans Tamil", "Noto Sans"),
        ("DejaVu Sans Light", "DejaVu Sans"),
        ("LM Roman 10", "LM Roman 12"),
    ],
)
def test_one_design_has_one_key(one: str, other: str) -> None:
    assert family_key(one) == family_key(other)


def test_capitals_only_fonts_are_told_apart(shipped: FontChoice) -> None:
    font = next(font for font in shipped.fonts if font.path.endswith("DejaVuSans.ttf"))
    assert not font.caseless
    capitals = {c: font.glyphs[c.upper() if c.isalpha() else c] for c in font.glyphs}
    assert legibility.repeats_capitals(legibility.shapes(capitals))


def test_letters_swapped_are_hard_to_read(shipped: FontChoice) -> None:
    shaped = [legibility.shapes(font.glyphs) for font in shipped.fonts if "matplotlib" in font.path]
    scores = legibility.compare([*shaped, np.roll(shaped[0], 7, axis=0)], [False] * (len(shaped) + 1))
    assert scores[-1].read < 0.2 < 0.6 < min(score.read for score in scores[:-1])


def test_files_that_are_no_fonts(tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"not a font")
    (tmp_path / "empty.otf").write_bytes(b"")
    choice = choose_fonts([tmp_path], system=False)
    assert {"broken.ttf", "empty.otf"} <= set(choice.dropped)
    with pytest.raises(UnusableFontError):
        draw_glyphs(tmp_path / "broken.ttf", "abc")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        font_files([tmp_path / "nowhere"], system=False)


def test_rare_characters_get_fonts_and_the_rest_are_named() -> None:
    choice = choose_fonts(system=False, split="train", characters="äßЖΩ漢")
    drawn = {char: sum(char in font.glyphs for font in choice.fonts) for char in "äßЖΩ漢"}
    assert drawn["漢"] == 0
    assert all(drawn[char] >= 2 for char in "äßЖΩ")
    assert choice.undrawn == "漢"
    plain = choose_fonts(system=False, split="train")
    assert {font.path for font in plain.fonts} <= {font.path for font in choice.fonts}


def test_few_fonts_leave_room_for_those_of_rare_characters() -> None:
    choice = choose_fonts(system=False, split="train", max_fonts=2, characters="Ж")
    assert len(choice.fonts) > 2
    assert sum("Ж" in font.glyphs for font in choice.fonts) > 1
    assert choice.undrawn == ""


def test_boxes_for_what_a_font_has_not_are_no_letters(shipped: FontChoice) -> None:
    glyphs = dict(shipped.fonts[0].glyphs)
    boxes = dict.fromkeys("абвг", glyphs["H"])
    assert legibility.repeated_boxes({**glyphs, **boxes}) == ["H", *boxes]
    assert (
        legibility.repeated_boxes(
            dict.fromkeys("H\N{CYRILLIC CAPITAL LETTER EN}\N{GREEK CAPITAL LETTER ETA}", glyphs["H"])
        )
        == []
    )
