from __future__ import annotations

from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.text import Text
from PIL import Image

from distill.evaluation.page.charts import Line, Mark, Place, best_places, frontier, lines
from distill.evaluation.page.svg import drawing, inline, write_pictures

PLACES = [
    Place("quick <b>", 2.0, Mark(0, 70.0, (68, 72))), Place("slow $x^2$", 8.0, Mark(1, 65.0, (63, 67))),
    Place("best & last", 20.0, Mark(2, 90.0, None)),
]  # fmt: skip


def test_no_reader_of_the_frontier_is_slower_and_no_better_than_another() -> None:
    assert [each.name for each in best_places(PLACES)] == ["quick <b>", "best & last"]
    equal_speed = [Place("a", 2.0, Mark(0, 50.0, None)), Place("b", 2.0, Mark(0, 60.0, None))]
    assert [each.name for each in best_places(equal_speed)] == ["b"]


def test_names_of_the_frontier_stay_apart() -> None:
    near = [Place(f"a reader {n}", 5 + n / 10, Mark(n, 80 + n / 10, (79, 81))) for n in range(4)]
    with drawing():
        figure = frontier([*near, Place("far", 50.0, Mark(4, 60.0, None))])
        figure.draw_without_rendering()
        (axes,) = figure.axes
        boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the lines to the markers
        area = axes.get_window_extent()
    assert len(boxes) == 5
    assert not [1 for one, other in combinations(boxes, 2) if one.overlaps(other)]
    assert all(area.x0 <= box.x0 and box.x1 <= area.x1 + 15 for box in boxes)


def test_a_figure_in_a_page_takes_the_pages_colours_and_shows_names_as_they_are() -> None:
    with drawing():
        text = inline(frontier(PLACES), 'time "and" accuracy')
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == 'time "and" accuracy'
    assert root.get("viewBox")
    assert root.get("width") is None
    shown = {element.text for element in root.iter() if element.tag.endswith("}text")}
    assert {each.name for each in PLACES} <= shown, "escaped, and not taken for formulas"
    assert "var(--series-0)" in text
    assert "#0969da" not in text
    assert "http" not in text.replace("http://www.w3.org/", "")


def test_ids_of_a_figure_are_those_that_are_referred_to() -> None:
    with drawing():
        text = inline(lines([Line(0, [0, 1], [1, 2])], "x", "y"), "a line")
    ids = [element.get("id") for element in ElementTree.fromstring(text).iter() if element.get("id")]
    assert ids
    assert all(f"#{each}" in text for each in ids)


def test_equal_figures_are_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with drawing():
            files = write_pictures(frontier(PLACES), tmp_path / name)
        assert [file.name for file in files] == [f"{name}.svg", f"{name}.png"]
    for ending in ("svg", "png"):
        assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.size == (860, 660)
    assert "<text" not in (tmp_path / "one.svg").read_text(encoding="utf-8"), "letters are shapes in files"


def test_a_legend_names_every_curve_that_has_a_name() -> None:
    series = [Line(number, [0, 1], [number, 2], name=name) for number, name in enumerate(["_mine", "", "b"])]
    with drawing():
        (axes,) = lines(series, "x", "y").axes
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.texts] == ["_mine", "b"]
    assert [line.get_color() for line in legend.get_lines()] == [axes.lines[n].get_color() for n in (0, 2)]


def test_the_users_own_style_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 7.0)
    with drawing():
        assert mpl.rcParams["lines.linewidth"] == 1.8
    assert mpl.rcParams["lines.linewidth"] == 7.0
