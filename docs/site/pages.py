"""Which files of the repository are pages of the site, and how their Markdown is read: a hook of MkDocs.

MkDocs looks for pages in one folder. Here pages are also README.md (the front page), CONTRIBUTING.md and the cards of
the shipped models. So every page is known to MkDocs by its path in the repository: links between pages are what they
are on GitHub, and MkDocs checks them all. A text that a page links to and that is no page itself, such as a
configuration or the licence, becomes a page that shows it; any other file is part of the site as it is.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

LOG = logging.getLogger("mkdocs.hooks.pages")
PLACES = {
    "README.md": "index.html",
    "CONTRIBUTING.md": "contributing.html",
    "students/weights/tiny/README.md": "models/tiny.html",
    "students/weights/small/README.md": "models/small.html",
    "students/weights/tiny-free/README.md": "models/tiny-free.html",
    "teachers/words_small/README.md": "models/words-small.html",
}
"""Pages that aren't in docs/, with their places in the site."""
LINK = re.compile(r"\]\(([^)#\s]+)\)")
SHOWN = {".md", ".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp"}
"""Endings of files that a browser shows well as they are, or that are pages."""
LANGUAGES = {".json": "json", ".yaml": "yaml", ".py": "python", ".sbatch": "bash", ".cfg": "ini", ".toml": "toml"}
TEXT_PAGE = """\
---
search: {{exclude: true}}
---
# {name}

``````{language}
{text}
``````
"""
FENCE = re.compile(r" *(`{3,}|~{3,})")
ITEM = re.compile(r"[-*+] |\d+[.)] ")
PATH_LINK = re.compile(r"\[[\w/.-]+\.md\]\(([\w/.-]+\.md)(#[\w-]+)?\)")
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
LITERAL = re.compile(r"<(pre|code)\b.*?</\1>|<(span|div) class=\"arithmatex\">.*?</\2>", re.DOTALL)
UNKNOWN = re.compile(r"\[[^\[\]]+\]\[[^\[\]]*\]")


class TextFile(File):
    """A file that is shown as it is, in a page of its own."""

    def is_documentation_page(self) -> bool:
        """Tell MkDocs to make a page of it, whatever its name ends with."""
        return True


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Name all files by their paths in the repository, and add those that aren't in docs/."""
    root, docs = Path(config.config_file_path).parent, Path(config.docs_dir)

    def add(path: str, place: str, inclusion: InclusionLevel = InclusionLevel.UNDEFINED) -> None:
        files.append(File(path, str(root), config.site_dir, False, dest_uri=place, inclusion=inclusion))

    for file in list(files):
        if file.src_dir == str(docs):
            files.remove(file)
            add(f"{docs.name}/{file.src_uri}", file.dest_uri, file.inclusion)
    for path, place in PLACES.items():
        add(path, place)
    for path in sorted(linked_files(files, root)):
        if (bare := files.get_file_from_path(path)) is not None:
            files.remove(bare)
        files.append(linked_file(path, root, config))
    return files


def linked_files(files: Files, root: Path) -> set[str]:
    """Find the files that pages link to and that are no pages, as paths in the repository."""
    found = set()
    for page in files.documentation_pages():
        for target in LINK.findall(page.content_string):
            path = PurePosixPath(path_of(target, page.src_uri))
            # What is outside of the repository isn't published; MkDocs warns of a link to it as of any that is broken.
            inside = not path.is_absolute() and ".." not in path.parts
            if "://" not in target and inside and (root / path).is_file() and path.suffix not in SHOWN:
                found.add(str(path))
    return found


def path_of(target: str, page: str) -> str:
    """Return the path in the repository that a link of a page leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), unquote(target)))


def linked_file(path: str, root: Path, config: MkDocsConfig) -> File:
    """Make a page that shows a text in the colours of its language, and that a search doesn't find.

    A file that is no UTF-8 text stays as it is.
    """
    place = PurePosixPath(path.removeprefix("docs/"))
    try:
        text = (root / path).read_text(encoding="utf-8").rstrip()
    except UnicodeDecodeError:
        return File(path, str(root), config.site_dir, False, dest_uri=str(place))
    file = TextFile(path, None, config.site_dir, False, dest_uri=f"{place}.html", inclusion=InclusionLevel.NOT_IN_NAV)
    file.content_string = TEXT_PAGE.format(name=path, language=LANGUAGES.get(place.suffix, "text"), text=text)
    return file


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Prepare a page for Python-Markdown, and name other pages by their titles where GitHub shows a path.

    Fences, lists and tables are set apart with blank lines, which Python-Markdown needs, and GitHub doesn't.
    """
    lines: list[str] = []
    fence = ""
    for line in markdown.splitlines():
        mark = FENCE.match(line)
        before = lines[-1] if lines else ""
        if fence:
            lines.append(line)
            if line.strip() == fence:
                fence = ""
                lines.append("")
            continue
        if mark:
            fence = mark[1]
        starts_list = ITEM.match(line) and not ITEM.match(before) and not before.startswith(" ")
        starts_table = line.startswith("|") and not before.startswith("|")
        if mark or starts_list or starts_table:
            lines.append("")
        lines.append(PATH_LINK.sub(lambda link: f"[{title_of(link[1], page, files)}]({link[1]}{link[2] or ''})", line))
    return "\n".join(lines)


def title_of(target: str, page: Page, files: Files) -> str:
    """Return the title of the page that another one links to; a link that leads nowhere keeps its text."""
    file = files.get_file_from_path(path_of(target, page.file.src_uri))
    title = TITLE.search(file.content_string) if file is not None else None
    return title[1] if title else target


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Warn of references that nothing defines; Markdown leaves them as they stand."""
    for unknown in UNKNOWN.findall(LITERAL.sub("", html)):
        LOG.warning("%s refers to %s, which it defines nowhere", page.file.src_uri, unknown)
    return html
