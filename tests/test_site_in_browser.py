"""The site in a real Chromium: it fits, loads nothing from elsewhere, shows equations and a diagram, and searches."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distill.deployment.npm import NpmFiles, NpmUnavailableError
from tests.browsing import Browser, Tab, serve

pytest.importorskip("material", reason='no Material for MkDocs here; pip install "symdistill[docs]"')

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort, PluginError

from docs.site import assets

ROOT = Path(__file__).resolve().parent.parent
WIDE = ("index", "method", "architecture", "results", "howto/several-processes", "models/tiny")
"""Pages with long equations, wide tables, a diagram, pictures, long commands."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site; tests are skipped where npm can't fetch what it needs."""
    for name, package in json.loads((ROOT / "docs" / "site" / "packages.json").read_text(encoding="utf-8")).items():
        try:
            NpmFiles(name, package["version"], "", package["sha256"]).find("")
        except NpmUnavailableError as error:
            pytest.skip(str(error))
    if shutil.which("node") is None:
        pytest.skip("no Node.js here to typeset equations")
    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    return folder


def test_pages_fit_any_width_and_load_nothing_from_elsewhere(site: Path, browser: Browser) -> None:
    with serve(site) as address:
        tab = Tab(browser)
        for name in WIDE:
            tab.page.goto(f"{address}{name}.html")
            tab.page.evaluate("document.fonts.ready")
            for width in (1400, 800, 380):
                tab.page.set_viewport_size({"width": width, "height": 800})
                assert tab.overflow() <= 0, f"{name} at {width} pixels"
        assert not tab.problems
        assert {f"http://{host}/" for host in tab.hosts} == {address}


def test_a_search_sees_equations_as_text(site: Path) -> None:
    entries = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    texts = "".join(entry["text"] for entry in entries if entry["location"].startswith("method.html"))
    assert "k=1,2,3" in texts
    assert not [left for left in (r"\(", r"\[", "mathml", r"\mathrm", "LCL(a,b)=") if left in texts]


def test_equations_and_the_diagram_are_there(site: Path, browser: Browser) -> None:
    with serve(site) as address:
        tab = Tab(browser)
        tab.page.goto(f"{address}method.html")
        blocks = (ROOT / "docs" / "method.md").read_text(encoding="utf-8").count("$$") // 2
        assert tab.page.locator(".katex-display").count() == blocks > 20
        assert tab.page.locator(".arithmatex").count() == 0
        loaded = "document.fonts.ready.then(fonts => [...fonts].some(font => font.family == 'KaTeX_Main'"
        assert tab.page.evaluate(f"{loaded} && font.status == 'loaded'))")
        tab.page.goto(f"{address}architecture.html")
        # Mermaid puts the drawing in the place of the text.
        tab.page.locator("div.mermaid").wait_for()
        assert tab.page.locator("div.mermaid").bounding_box()["height"] > 200
        assert tab.page.locator("pre.mermaid").count() == 0
        assert not tab.problems
        assert {f"http://{host}/" for host in tab.hosts} == {address}


@pytest.mark.parametrize("from_disk", [False, True], ids=["served", "from disk"])
def test_search_finds_a_word(from_disk: bool, site: Path, browser: Browser) -> None:
    with serve(site) as address:
        tab = Tab(browser)
        tab.page.goto((site / "index.html").as_uri() if from_disk else f"{address}index.html")
        tab.page.locator(".md-search__input").click()
        # The search looks at its field when a key goes up, once it has its index: a value that is set may go unseen.
        tab.page.locator(".md-search-result__meta", has_text="Type to start searching").wait_for()
        tab.page.locator(".md-search__input").press_sequentially("McNemar")
        tab.page.locator(".md-search-result__link").first.wait_for()
        links = tab.page.locator(".md-search-result__link").evaluate_all("links => links.map(link => link.href)")
        assert any("/howto/compare.html" in link for link in links)
        assert not tab.problems


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_code_can_be_copied(scheme: str, site: Path, browser: Browser) -> None:
    with serve(site) as address:
        tab = Tab(browser, color_scheme=scheme, permissions=["clipboard-read", "clipboard-write"])
        tab.page.goto(f"{address}index.html")
        ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)")
        assert (sum(ground[:3]) < 300) == (scheme == "dark")
        block = tab.page.locator(".language-bash", has_text="make quickstart")
        block.get_by_role("button").first.click()
        assert tab.page.evaluate("navigator.clipboard.readText()").strip() == "make quickstart"


def test_an_equation_that_cannot_be_read_is_an_error(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    page = r'<span class="arithmatex">\(a &lt; b\)</span> <div class="arithmatex">\[\nosuch\]</div>'
    with caplog.at_level(logging.WARNING):
        output = assets.typeset(page, "page.md")
    assert [record.name for record in caplog.records] == ["mkdocs.hooks.assets"], "strict builds count these"
    assert "page.md" in caplog.text
    assert r"\nosuch" in caplog.text
    assert output.startswith('<span class="katex">')
    assert "<mo>&lt;</mo>" in output


def test_equations_are_the_same_where_the_locale_is_not_utf_8(site: Path) -> None:
    page = r'<span class="arithmatex">\(\sqrt{x} - \infty\)</span>'
    expected = assets.typeset(page, "page.md")
    assert not expected.isascii()
    done = subprocess.run(
        [sys.executable, "-c", f"from docs.site import assets; print(ascii(assets.typeset({page!r}, 'page.md')))"],
        cwd=ROOT, env=os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": "."},
        capture_output=True, encoding="ascii", check=True,
    )  # fmt: skip
    assert done.stdout == f"{expected!a}\n"


def test_where_node_fails_one_line_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "katex" / "dist").mkdir(parents=True)
    (tmp_path / "katex" / "dist" / "katex.min.js").write_text("const damaged =", encoding="utf-8")
    monkeypatch.setattr(assets, "find_package", lambda name: tmp_path / name)
    if shutil.which("node") is None:
        pytest.skip("no Node.js here to typeset equations")
    with pytest.raises(PluginError, match=r"typeset the equations of page\.md \(SyntaxError: .*install") as error:
        assets.typeset(r'<span class="arithmatex">\(x\)</span>', "page.md")
    assert "\n" not in str(error.value)


def test_without_npm_one_line_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.ERROR), pytest.raises(Abort):
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert "there is no npm here" in record.getMessage()
    assert "npm pack" in record.getMessage()
