"""The pages in a real browser: nothing is asked of the network, nothing is wrong, nothing is wider than the screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.commands.compare import main as compare
from tests.browsing import Browser, Tab
from tests.distill.evaluation.fakes import write_run

from .conftest import FOREIGN, Page

DARKER = 200
"""How far apart text and paper have to be, of 255."""


def open_tab(browser: Browser, file: Path, width: int, scheme: str) -> Tab:
    tab = Tab(browser, width, color_scheme=scheme)
    tab.page.on("dialog", lambda dialog: tab.problems.append(dialog.message))
    tab.page.goto(file.as_uri())
    return tab


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_fits_every_screen(browser: Browser, page: Page, width: int, scheme: str) -> None:
    tab = open_tab(browser, page.file, width, scheme)
    view = tab.page
    assert view.inner_text(".verdict") == page.report["verdict"]
    assert tab.overflow() == 0
    for summary in view.query_selector_all("summary"):
        summary.click()
    assert tab.overflow() == 0, "opened sections fit too"
    broken = "[...document.images].filter(each => each.complete && !each.naturalWidth).length"
    assert view.evaluate(broken) == 0
    assert view.evaluate("document.images.length") > 24
    assert FOREIGN in view.inner_text("main")
    ink, paper = view.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    assert (brightness(paper) > brightness(ink)) == (scheme == "light")
    label = view.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")
    assert abs(brightness(label) - brightness(paper)) > DARKER, "text in charts can be read"
    assert (tab.problems, tab.hosts - {""}) == ([], set())
    tab.context.close()


def test_a_comparison_of_runs_fits_every_screen(browser: Browser, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"r{n}", n % 2, [k < 9 + n for k in range(20)], name="ab"[n // 2]) for n in range(4)]
    assert compare([*runs, "--out", str(tmp_path / "out")]) == 0
    for width, scheme in ((360, "dark"), (1280, "light")):
        tab = open_tab(browser, tmp_path / "out" / "compare.html", width, scheme)
        assert "b reads most" in tab.page.inner_text(".verdict")
        assert tab.overflow() == 0
        assert (tab.problems, tab.hosts - {""}) == ([], set())
        tab.context.close()


def test_a_report_prints(browser: Browser, page: Page) -> None:
    tab = open_tab(browser, page.file, 1280, "dark")
    tab.page.emulate_media(media="print")
    paper = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert brightness(paper) > DARKER, "paper stays white"
    assert tab.page.pdf()[:4] == b"%PDF"
    tab.context.close()


def brightness(colour: str) -> float:
    """The mean of a computed colour's three parts."""
    parts = colour[colour.index("(") + 1 : -1].split(",")[:3]
    return sum(map(float, parts)) / 3
