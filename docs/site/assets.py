"""Equations, diagrams and what else a browser loads, all from the site itself: a hook of MkDocs.

KaTeX typesets the equations while the site is built, so that pages need its stylesheet and fonts, but no program.
Mermaid draws diagrams in the browser, on the pages that have some. Both come from npm, once, into the user's cache.
"""

from __future__ import annotations

import html
import json
import logging
import re
import shutil
import subprocess
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

from distill.deployment.npm import NpmFiles
from students.errors import UserError

LOG = logging.getLogger("mkdocs.hooks.assets")
PACKAGES = json.loads(Path(__file__).with_name("packages.json").read_text(encoding="utf-8"))
"""npm's packages: version, and the files of each with their SHA-256."""
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
TYPESET = """
const katex = require(process.argv[1]);
const equations = JSON.parse(require("fs").readFileSync(0, "utf8"));
const typeset = ({ source, displayMode }) => {
  try {
    return { html: katex.renderToString(source, { displayMode }) };
  } catch (error) {
    return { error: error.message };
  }
};
console.log(JSON.stringify(equations.map(typeset)));
"""


def find_package(name: str) -> Path:
    """Find a package's files, fetched by npm unless they are in the cache; raises `PluginError` for one line."""
    files = NpmFiles(name, PACKAGES[name]["version"], "", PACKAGES[name]["sha256"])
    try:
        return files.find(
            f"put what is in the `package` of `npm pack {files.name}`, fetched elsewhere, into {files.cached}"
        )
    except UserError as error:
        raise PluginError(str(error)) from None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that browsers load."""
    for name, package in PACKAGES.items():
        folder = find_package(name)
        for path in package["sha256"]:
            files.append(File.generated(config, f"assets/{name}/{path}", abs_src_path=str(folder / path)))
    return files


def on_page_content(output: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Typeset the equations of a page."""
    return typeset(output, page.file.src_uri) if EQUATION.search(output) else output


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Let a page load what it needs."""

    def address(path: str) -> str:
        return get_relative_url(f"assets/{path}", page.url)

    head = ""
    if 'class="katex"' in output:
        head += f'<link rel="stylesheet" href="{address("katex/dist/katex.min.css")}">'
    if 'class="mermaid"' in output:
        head += f'<script src="{address("mermaid/dist/mermaid.min.js")}" defer></script>'
    return output.replace("</head>", f"{head}</head>", 1)


def typeset(output: str, name: str) -> str:
    """Replace the equations of a page by what KaTeX makes of them, and warn of those that it can't read."""
    node = shutil.which("node")
    if node is None:
        raise PluginError("equations are typeset by KaTeX, and there is no node here to run it; install Node.js")
    equations = [
        {"source": html.unescape(source), "displayMode": kind == "["} for _, kind, source in EQUATION.findall(output)
    ]
    script = find_package("katex") / "dist" / "katex.min.js"
    command = [node, "-e", TYPESET, str(script)]
    done = subprocess.run(command, input=json.dumps(equations), capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        reason = next((line for line in lines if "Error" in line), lines[0])  # above it stands the source
        raise PluginError(f"{node} can't typeset the equations of {name} ({reason}); install a current Node.js")
    results = iter(json.loads(done.stdout))

    def replace(match: re.Match[str]) -> str:
        result = next(results)
        if "error" in result:
            LOG.warning("%s: %s in %s", name, result["error"], html.unescape(match[3]))
            return match[0]
        # A search sees what stands within a line as plain text. It ends an exclusion at the next end of the same tag,
        # so the element that is excluded may have no other of its kind in it.
        spans = result["html"].replace('<span class="katex-mathml"', '<span data-search-exclude class="katex-mathml"')
        return f"<div data-search-exclude>{spans}</div>" if match[2] == "[" else str(spans)

    return EQUATION.sub(replace, output)
