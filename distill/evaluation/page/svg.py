"""Figures of matplotlib as files, and as SVG inside a page, where they take on its colours."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from students.files import replacing, write_file

INK, MUTED, GRID, PAPER = "#1f2328", "#59636f", "#d1d9e0", "#ffffff"
SERIES = (
    "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#1b7c83", "#9a6700", "#6e7781", "#cf222e", "#0a3069",
    "#6b8e00", "#8c564b",
)  # fmt: skip
"""A colour a series, in the order of the readers; the page knows darker and lighter ones for them."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
"""A shape a series too, for those who don't see the colours and for paper."""
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES)
}
"""The page's variable for each colour."""
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "svg.hashsalt": "symdistill",  # equal figures are equal files
    "text.parse_math": False,  # names and labels are foreign text: a $ is a $
    "font.size": 11, "axes.labelsize": 11, "xtick.labelsize": 10, "ytick.labelsize": 10,
    "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.8, "axes.linewidth": 0.8,
    "lines.linewidth": 1.8, "lines.markersize": 5.5, "figure.facecolor": PAPER, "axes.facecolor": "none",
    "font.family": "sans-serif", "figure.dpi": 72, "axes.unicode_minus": True,
}  # fmt: skip


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the style of the pages inside the block, and leave the user's own style as it was."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def new_figure(width: float = 430, height: float = 280) -> Figure:
    """Make an empty figure of so many pixels; call it while `drawing`."""
    return Figure(figsize=(width / 72, height / 72), layout="constrained")


def inline(figure: Figure, title: str) -> str:
    """Turn a figure into an `svg` element for a page: its colours are the page's variables, its size is free.

    Args:
        figure: drawn within `drawing`.
        title: what it shows, for those who can't see it.
    """
    figure.patch.set_visible(False)
    root = ElementTree.fromstring(_render(figure))
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    referred = {
        value.partition("#")[2].rstrip(")")
        for element in root.iter() for value in element.attrib.values() if value.startswith(("#", "url(#"))
    }  # fmt: skip
    for element in root.iter():
        style = element.get("style")
        if style is not None:
            for colour, variable in VARIABLES.items():
                style = style.replace(colour, f"var({variable})")
            element.set("style", style)
        if element.get("id") not in referred:
            element.attrib.pop("id", None)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": title}
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _render(figure: Figure) -> bytes:
    stored = io.BytesIO()
    with mpl.rc_context(STYLE):  # the style of the file is that of the moment of writing
        FigureCanvasSVG(figure).print_svg(stored, metadata={"Date": None})
    return stored.getvalue()


def write_pictures(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as `PATH.svg` and `PATH.png`, each whole or not at all.

    In these files letters are shapes: they look the same wherever they are shown.
    """
    files = picture_files(path)
    stored = io.BytesIO()
    with mpl.rc_context(STYLE | {"svg.fonttype": "path"}):
        figure.savefig(stored, format="svg", metadata={"Date": None})
        # Its points are meant as pixels: 430 are 430 on a page too, not 573.
        write_file(files[0], re.sub(rb'\b(width|height)="([\d.]+)pt"', rb'\1="\2"', stored.getvalue(), count=2))
        with replacing(files[1]) as beside:
            figure.savefig(beside, format="png", dpi=144, metadata={"Software": None})
    return files


def picture_files(path: Path) -> list[Path]:
    """Name the files that `write_pictures` writes."""
    return [path.with_name(f"{path.name}{ending}") for ending in (".svg", ".png")]
