"""The documentation as a site: every page is in it, nothing wrong is built, and it reads as on GitHub."""

from __future__ import annotations

import logging
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

pytest.importorskip("material", reason='no Material for MkDocs here; pip install "symdistill[docs]"')

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

ROOT = Path(__file__).resolve().parent.parent
BESIDE = {
    "README.md": "index",
    "CONTRIBUTING.md": "contributing",
    "students/weights/tiny/README.md": "models/tiny",
    "students/weights/small/README.md": "models/small",
    "students/weights/tiny-free/README.md": "models/tiny-free",
    "teachers/words_small/README.md": "models/words-small",
}
"""Pages that aren't in docs/, and their addresses."""
PAGES = {str(file.relative_to(ROOT)): str(file.relative_to(ROOT / "docs"))[:-3] for file in ROOT.glob("docs/**/*.md")}
PAGES |= BESIDE
PAGES_ALONE = ["docs/site/pages.py"]
COMPARED = {"h1", "h2", "h3", "h4", "p", "ul", "ol", "li", "tr", "th", "td", "strong", "em", "img", "blockquote"}


def build_site(root: Path, site: Path, **changes: Any) -> None:
    """Build the site of a repository."""
    config = load_config(str(root / "mkdocs.yml"), site_dir=str(site), **changes)
    assert config.strict
    build(config)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, without what browsers load besides, so that it takes neither npm nor Node.js to build them."""
    folder = tmp_path_factory.mktemp("site")
    build_site(ROOT, folder, hooks=PAGES_ALONE)
    return folder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of all that the site is made of, to break."""
    folder = tmp_path / "copy"
    shutil.copytree(ROOT / "docs", folder / "docs")
    for path in ("mkdocs.yml", "LICENSE", *BESIDE):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


def article(site: Path, address: str) -> str:
    """The page itself, without what stands around it."""
    html = (site / f"{address}.html").read_text(encoding="utf-8")
    return re.search(r"<article[^>]*>(.*?)</article>", html, re.DOTALL)[1]


def test_every_page_is_in_the_navigation(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    linked = {link.removesuffix(".html") for link in re.findall(r'<a href="([^"]*)" class="md-nav__link', front)}
    assert set(PAGES.values()) <= linked
    assert len(PAGES) > 25
    assert "symdistill trains small, fast readers" in article(site, "index")


def test_links_that_are_paths_on_github_are_titles(site: Path) -> None:
    assert '<a href="howto/own-data.html">Train on your own pictures</a>' in article(site, "index")
    assert '<a href="programs.html#8-bit-weights">Read inside other programs</a>' in article(site, "howto/web")
    assert not re.findall(r">[\w/.-]+\.md</a>", "".join(article(site, address) for address in PAGES.values()))


def test_files_that_are_no_pages_are_shown_as_text(site: Path) -> None:
    assert '<a href="LICENSE.html">' in article(site, "index")
    assert "Apache License" in article(site, "LICENSE")
    assert "#SBATCH" in article(site, "howto/slurm.sbatch")
    assert 'class="nt">"seed"<' in article(site, "recipes/rendered-300000-7.json"), "in colours"


def test_every_link_and_picture_of_a_page_is_in_the_site(site: Path) -> None:
    # MkDocs checks what is written as Markdown; this sees what came of it, and of HTML.
    for address in PAGES.values():
        folder = (site / address).parent
        for target in re.findall(r' (?:href|src)="([^"]+)"', article(site, address)):
            path, _, anchor = unquote(target).partition("#")
            if "://" not in target:
                file = folder / path if path else site / f"{address}.html"
                assert file.is_file(), f"{address} links to {target}"
                assert not anchor or f'id="{anchor}"' in file.read_text(encoding="utf-8"), f"{address}: {target}"


def test_what_is_wrong_is_an_error(copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (copy / "docs" / "stray.md").write_text("# In no navigation\n", encoding="utf-8")
    with (copy / "README.md").open("a", encoding="utf-8") as page:
        page.write("\n[a](docs/nowhere.md) [b](docs/method.md#nowhere) [c](distill/nowhere.py) [d][nowhere] `[e][f]`\n")
    with caplog.at_level(logging.WARNING), pytest.raises(Abort, match="5 warnings"):
        build_site(copy, tmp_path / "site", hooks=PAGES_ALONE)
    for wrong in ("docs/stray.md", "docs/nowhere.md", "#nowhere", "distill/nowhere.py", "[d][nowhere]"):
        assert wrong in caplog.text


def test_a_link_out_of_the_repository_is_a_line_and_not_followed(
    copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "secret.txt").write_text("not to be published", encoding="utf-8")
    with (copy / "README.md").open("a", encoding="utf-8") as page:
        page.write("\n[a](../secret.txt)\n")
    with caplog.at_level(logging.WARNING), pytest.raises(Abort, match="1 warnings"):
        build_site(copy, tmp_path / "site", hooks=PAGES_ALONE)
    (message,) = (record.getMessage() for record in caplog.records)
    assert "../secret.txt" in message
    assert "\n" not in message


@pytest.mark.parametrize("path", ["docs/model.onnx", "models/model.onnx"])
def test_a_file_that_is_no_text_is_served_as_it_is(path: str, copy: Path, tmp_path: Path) -> None:
    content = bytes(range(256))
    (copy / path).parent.mkdir(exist_ok=True)
    (copy / path).write_bytes(content)
    with (copy / "README.md").open("a", encoding="utf-8") as page:
        page.write(f"\n[a]({path})\n")
    build_site(copy, tmp_path / "site", hooks=PAGES_ALONE)
    (link,) = re.findall(r'href="([^"]*model.onnx[^"]*)"', article(tmp_path / "site", "index"))
    assert (tmp_path / "site" / link).read_bytes() == content


class Elements(HTMLParser):
    """The elements of a page in their order, a block of code as one."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.blocks = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        link = tag == "a" and dict(attrs).get("class") != "headerlink"
        if not self.blocks and (tag in COMPARED or tag in ("pre", "code") or link):
            self.names.append(tag)
        self.blocks += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self.blocks -= tag == "pre"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_the_elements_that_it_has_on_github(path: str, site: Path) -> None:
    # Equations are taken out: neither side reads them as Markdown. Those of a block stand in a paragraph.
    text = re.sub(r"\A---\n.*?\n---\n", "", (ROOT / path).read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"(`+[^`]*`+)|\$\$.*?\$\$", lambda match: match[1] or "\n\nblock\n\n", text, flags=re.DOTALL)
    text = re.sub(r"(`+[^`]*`+)|\$[^$\n]+\$", lambda match: match[1] or "inline", text)
    expected = MarkdownIt("commonmark").enable("table").render(text)
    actual = re.sub(r'<div class="arithmatex">.*?</div>', "<p>", article(site, PAGES[path]), flags=re.DOTALL)
    assert Elements(actual).names == Elements(expected).names
