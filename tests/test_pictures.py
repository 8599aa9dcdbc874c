"""The pictures of the documentation: drawn by a command, shown somewhere, with words for those who can't see them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from docs.pictures.draw import SUBJECTS, main
from docs.pictures.pages import shoot
from losses.heads import TERMS
from tests.browsing import Browser, Tab
from tests.distill.evaluation.fakes import write_run

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FILES = sorted(file for file in PICTURES.iterdir() if file.suffix in (".svg", ".png", ".webp"))


def shown(page: Path) -> list[tuple[str, Path]]:
    """The alternative text and the file of each picture of a page."""
    found = re.findall(r"!\[([^\]]*)\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    return [(words, (page.parent / target).resolve()) for words, target in found]


def heights(root: ElementTree.Element) -> dict[str, float]:
    """Where in a figure each of its words stands."""
    return {
        element.text or "": float(element.get("y", "nan")) for element in root.iter() if element.tag.endswith("text")
    }


def test_the_method_is_drawn_as_it_is_committed(tmp_path: Path) -> None:
    assert main(["method", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "method.svg").read_bytes() == (PICTURES / "method.svg").read_bytes()


def test_the_method_names_every_stage_and_puts_each_term_between_the_two_that_it_compares() -> None:
    at = heights(ElementTree.parse(PICTURES / "method.svg").getroot())
    assert TERMS.keys() <= at.keys()
    for number in (1, 2, 3):
        visual, linguistic = at[f"visual{number}"], at[f"linguistic{number}"]
        assert visual == pytest.approx(at[f"encoder {number}"], abs=2)
        assert visual == pytest.approx(at[f"image {number}"], abs=2)
        assert linguistic == pytest.approx(at[f"decoder {number}"], abs=2)
        assert linguistic == pytest.approx(at[f"text {4 - number}"], abs=2)  # the deepest tap guides the first
    assert at["summary"] < at["bridge"] < at["joint space"]


def test_the_words_are_drawn_as_they_are_committed(tmp_path: Path) -> None:
    pytest.importorskip("wordfreq", reason="words are rendered with the extra render")
    assert main(["words", "--out", str(tmp_path)]) == 0
    drawn, stored = (np.asarray(Image.open(path / "words.png").convert("RGB"), int) for path in (tmp_path, PICTURES))
    assert drawn.shape == stored.shape
    # Other versions of Pillow and OpenCV round elsewhere; other words or fonts differ by far more.
    assert np.abs(drawn - stored).mean() < 2


def test_curves_of_a_run_and_its_baseline(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_run(run, 0, [True, False], name="mine", guidance={"kd": 0.5})
    write_run(run / "baseline", 0, [False, False], name="mine-baseline")
    assert main(["curves", "--run", str(run), "--out", str(tmp_path / "new")]) == 0
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["curve-steps.svg"]


def test_what_cannot_be_drawn_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    for given, message in (
        (["methods"], "choose among method, words"),
        (["curves", "--run", str(tmp_path)], "is no finished run"),
        (["demo"], "the demo page needs gradio"),
        (["report"], "no Playwright here"),
    ):
        assert main([*given, "--out", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_of_all_pictures_those_that_cannot_be_drawn_are_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for slow in ("words", "report"):
        monkeypatch.delitem(SUBJECTS, slow)
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["--run", str(tmp_path), "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        [f"wrote {tmp_path / 'method.svg'}"], ["left out", "curves"], ["left out", "demo"],
    ]  # fmt: skip


def test_a_part_of_a_page_is_shot(tmp_path: Path, browser: Browser) -> None:
    page = Tab(browser, 300).page
    page.set_content('<body style="margin:0"><div style="height:900px;background:#f00"></div>'
                     '<div style="height:500px;background:#00f"></div>')  # fmt: skip
    shoot(page, tmp_path / "part.webp", 890, 1000)
    with Image.open(tmp_path / "part.webp") as picture:
        assert (picture.format, picture.size) == ("WEBP", (300, 110))
        above, below = (np.asarray(picture.convert("RGB"), int)[row].mean(axis=0) for row in (3, 100))
    assert (above.argmax(), below.argmax()) == (0, 2), "red ends ten pixels below the upper edge"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pictures_of_a_page_exist_and_are_described(page: Path) -> None:
    for words, file in shown(page):
        assert file.is_file(), f"{page.name} shows {file}"
        assert len(words) >= 20, f"{page.name}: {file.name} has {words!r} as its alternative text"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_picture_is_shown_and_small(file: Path) -> None:
    assert any(file == target for page in PAGES for _, target in shown(page)), f"{file.name} is shown nowhere"
    assert file.stat().st_size < 250_000
