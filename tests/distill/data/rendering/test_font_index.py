"""FontIndex: what was found of a font is found again, unless the file has changed or the index is damaged."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import matplotlib
import pytest

from distill.data.rendering import font_index
from distill.data.rendering.atlas import UnusableFontError
from distill.data.rendering.font_index import FontIndex, read_characters
from distill.data.rendering.fonts import FontChoice, choose_fonts

DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@pytest.fixture
def font(tmp_path: Path) -> Path:
    return Path(shutil.copy(DEJAVU, tmp_path / "copy.ttf"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "fonts.json"


def test_characters_are_those_of_the_font(font: Path, file: Path) -> None:
    index = FontIndex(file)
    assert index.characters(font, "aÄßЖΩ漢の\U0001f600") == set("aÄßЖΩ\U0001f600")
    assert read_characters(font).startswith("20-7e,a0-")
    assert index.facts(font).family == "DejaVu Sans"


def test_what_was_found_is_not_read_again(font: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FontIndex(file)
    first.characters(font, "a")
    first.reject(font, "lines too thin to see")
    first.save()
    monkeypatch.setattr(font_index, "load_face", None)
    monkeypatch.setattr(font_index, "read_characters", None)
    again = FontIndex(file)
    assert again.facts(font) == first.facts(font)
    with pytest.raises(UnusableFontError, match="too thin"):
        again.characters(font, "a")


def test_a_changed_font_is_read_anew(font: Path, file: Path) -> None:
    index = FontIndex(file)
    index.facts(font)
    index.save()
    os.utime(font, ns=(1, 1))
    changed = FontIndex(file)
    changed.reject(font, "of the new file")
    changed.save()
    assert FontIndex(file).facts(font).reason == "of the new file"
    font.write_bytes(b"no font")
    assert not FontIndex(file).facts(font).opens


def test_processes_add_to_one_file_and_lost_fonts_leave_it(font: Path, file: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(font, tmp_path / "other.ttf"))
    one, two = FontIndex(file), FontIndex(file)
    one.facts(font)
    two.facts(other)
    one.save()
    two.save()
    assert sorted(json.loads(file.read_text())["fonts"]) == [str(font), str(other)]
    other.unlink()
    os.utime(font, ns=(1, 1))
    three = FontIndex(file)
    three.facts(font)
    three.save()
    assert sorted(json.loads(file.read_text())["fonts"]) == [str(font)]


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 0, "fonts": {}}',
        '{"version": VERSION}',
        '{"version": VERSION, "fonts": []}',
        '{"version": VERSION, "fonts": {PATH: 1}}',
        '{"version": VERSION, "fonts": {PATH: {"size": "x", "modified": 0}}}',
        '{"version": VERSION, "fonts": {PATH: {"size": SIZE, "modified": TIME, "family": 3}}}',
        '{"version": VERSION, "fonts": {PATH: {"size": SIZE, "modified": TIME, "characters": "zz-1"}}}',
        '{"version": VERSION, "fonts": {PATH: {"size": SIZE, "modified": TIME, "unknown": 1}}}',
        "[" * 100_000,
        "\xff",
    ],
)
def test_a_damaged_file_counts_as_none(damage: str, font: Path, file: Path) -> None:
    fresh = FontIndex(file)
    fresh.characters(font, "a")
    fresh.save()
    stat = font.stat()
    text = damage.replace("VERSION", json.dumps(json.loads(file.read_text())["version"])).replace(
        "SIZE", str(stat.st_size)
    )
    file.write_text(text.replace("PATH", json.dumps(str(font))).replace("TIME", str(stat.st_mtime_ns)), "latin-1")
    index = FontIndex(file)
    assert index.characters(font, "aß漢") == {"a", "ß"}
    assert index.facts(font).family == "DejaVu Sans"
    index.save()
    assert FontIndex(file).facts(font) == index.facts(font)


def test_a_cache_that_can_not_be_written_is_done_without(font: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    index = FontIndex(tmp_path / "cache" / "fonts.json")
    index.facts(font)
    index.save()
    assert index.facts(font).family == "DejaVu Sans"


def test_fonts_are_chosen_alike_with_and_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    choices = [choose_fonts(system=False, split="train", characters="äЖ") for _ in range(2)]
    assert (tmp_path / "symdistill" / "fonts.json").is_file()

    def described(choice: FontChoice) -> object:
        return [(font.path, font.name, font.weight, sorted(font.glyphs)) for font in choice.fonts], choice.dropped

    assert described(choices[0]) == described(choices[1])
