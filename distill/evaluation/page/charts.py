"""The charts of the pages, drawn with matplotlib; call them within `svg.drawing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from distill.evaluation.metrics import Tally
from distill.evaluation.page.analysis import AIM, Bin
from distill.evaluation.page.svg import GRID, INK, MARKERS, MUTED, PAPER, SERIES, new_figure

LONGEST = 28
"""Characters of a name inside a chart."""
LETTER = 6.3
"""Width of a letter in a chart, pixels, on average."""


@dataclass(frozen=True)
class Line:
    """A series of points, and what is around them."""

    number: int
    """Which colour and marker."""
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    """Lower bounds; none for no band."""
    high: Sequence[float] = ()
    name: str = field(default="", kw_only=True)
    """Named within the chart; empty where what is around the chart names it."""


@dataclass(frozen=True)
class Mark:
    """A reader's accuracy with its interval, per cent."""

    number: int
    """Which colour and marker."""
    accuracy: float
    interval: tuple[float, float] | None
    """None where there is none."""


@dataclass(frozen=True)
class Place:
    """A reader on the frontier: how long it takes and how much it reads."""

    name: str
    ms: float
    mark: Mark


def colour(number: int) -> str:
    """Return the colour of the `number`-th series."""
    return SERIES[number % len(SERIES)]


def marker(number: int) -> str:
    """Return the marker of the `number`-th series."""
    return MARKERS[number % len(MARKERS)]


def short(name: str) -> str:
    """Cut a long name in the middle, for a chart."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2 - 1]}…{name[-(LONGEST // 2) :]}"


def accuracy_by_set(rows: Sequence[tuple[str, Sequence[Mark]]]) -> Figure:
    """Draw accuracies with their intervals: a row a set, in it a marker a reader.

    Args:
        rows: name of the set, and each reader's mark.
    """
    readers = max(len(each) for _, each in rows)
    step, gap = 15, 16
    figure = new_figure(height=56 + len(rows) * (step * readers + gap))
    axes = figure.add_subplot()
    place, ticks = 0.0, []
    for name, scores in rows:
        first = place
        for mark in scores:
            shade = colour(mark.number)
            if mark.interval is not None:
                axes.plot(mark.interval, [place, place], color=shade, linewidth=2, solid_capstyle="butt")
            axes.plot(mark.accuracy, place, marker(mark.number), color=shade, markeredgecolor=PAPER, markersize=7)
            place += step
        ticks.append(((first + place - step) / 2, short(name)))
        place += gap
        axes.axhline(place - step / 2 - gap / 2, color=GRID, linewidth=0.8)
    axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    axes.set_ylim(place - gap / 2 - step / 2, -step / 2 - gap / 2)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("word accuracy, %, with 95% interval")
    return figure


def frontier(places: Sequence[Place], width: float = 430, height: float = 330) -> Figure:
    """Draw accuracy against milliseconds a word, each reader by name, and the line that no reader is above."""
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    best = best_places(places)
    if len(best) > 1:
        axes.step(
            [each.ms for each in best], [each.mark.accuracy for each in best], where="post", color=MUTED,
            linewidth=1.2, linestyle=(0, (4, 3)), zorder=1,
        )  # fmt: skip
    for each in places:
        shade = colour(each.mark.number)
        if each.mark.interval is not None:
            axes.plot([each.ms, each.ms], each.mark.interval, color=shade, linewidth=2, zorder=2)
        axes.plot(
            each.ms, each.mark.accuracy, marker(each.mark.number), color=shade, markeredgecolor=PAPER, markersize=8,
            zorder=3,
        )  # fmt: skip
    axes.set_xscale("log")
    slow, quick = max(each.ms for each in places), min(each.ms for each in places)
    axes.set_xlim(quick / 1.6, slow * 1.6)
    digits = (1, 2, 5) if slow > 4 * quick else (1, 1.5, 2, 3, 4, 5, 7)
    ticks = [digit * 10.0**power for power in range(-3, 6) for digit in digits]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if quick / 1.6 <= tick <= slow * 1.6]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("milliseconds a word (one at a time, one CPU thread)")
    axes.set_ylabel("word accuracy, %")
    axes.margins(y=0.12)
    name_places(figure, axes, places)
    return figure


def best_places(places: Sequence[Place]) -> list[Place]:
    """Choose the readers that none is both as quick as and better than, the quickest first."""
    best: list[Place] = []
    for each in sorted(places, key=lambda each: (each.ms, -each.mark.accuracy)):
        if not best or each.mark.accuracy > best[-1].mark.accuracy:
            best.append(each)
    return best


Box = tuple[float, float, float, float]
"""Left, bottom, right and top in pixels."""


def name_places(figure: Figure, axes: Axes, places: Sequence[Place]) -> None:
    """Write each name beside its marker, where it covers no marker and no other name; else with a line to it."""
    figure.draw_without_rendering()  # only now it is known where markers are
    area = axes.get_window_extent()
    points = [axes.transData.transform((each.ms, each.mark.accuracy)) for each in places]
    taken: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in points]
    for each in places:
        if each.mark.interval is not None:
            (x, low), (_, high) = axes.transData.transform([(each.ms, bound) for bound in each.mark.interval])
            taken.append((x - 2, low, x + 2, high))
    for each, (x, y) in sorted(zip(places, points, strict=True), key=lambda pair: -pair[0].mark.accuracy):
        width = LETTER * len(short(each.name))
        candidates = [
            (side, up, name_box(x, y + up, side * width))
            for up in (0, 15, -15, 30, -30, 45, -45, 60, -60) for side in (1, -1)
        ]  # fmt: skip
        free = [
            (side, up, box) for side, up, box in candidates
            if box[0] >= area.x0 and box[2] <= area.x1 and not any(overlap(box, other) for other in taken)
        ]  # fmt: skip
        side, up, box = (free or candidates)[0]
        taken.append(box)
        axes.annotate(
            short(each.name), (each.ms, each.mark.accuracy), xytext=(10 * side, up), textcoords="offset points",
            ha="left" if side > 0 else "right", va="center", color=INK, zorder=4,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1, "alpha": 0.85},
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.8, "shrinkB": 5} if up else None,
        )  # fmt: skip


def name_box(x: float, y: float, width: float) -> Box:
    """Return the box of a name beside a point, left of it for a negative width."""
    return (x + 10, y - 7, x + 10 + width, y + 7) if width > 0 else (x - 10 + width, y - 7, x - 10, y + 7)


def overlap(one: Box, other: Box) -> bool:
    """Tell whether two boxes overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def lines(
    series: Sequence[Line], xlabel: str, ylabel: str, *, percent: bool = False, log: bool = False, points: bool = True,
    width: float = 430,
) -> Figure:  # fmt: skip
    """Draw curves, with bands where they have bounds.

    Args:
        series: the curves.
        xlabel: what the horizontal axis is.
        ylabel: what the vertical axis is.
        percent: the vertical axis begins at 0.
        log: the vertical axis is logarithmic.
        points: mark the points.
        width: of the chart, pixels.
    """
    figure = new_figure(width)
    axes = figure.add_subplot()
    named = []
    for line in series:
        if len(line.low):
            axes.fill_between(line.x, line.low, line.high, color=colour(line.number), alpha=0.15, linewidth=0)
        shape = marker(line.number) if points else ""
        (curve,) = axes.plot(line.x, line.y, color=colour(line.number), marker=shape, markeredgecolor=PAPER)
        if line.name:
            named.append((curve, line.name))
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        highest = max(max(line.y) for line in series)
        axes.set_ylim(bottom=max(axes.get_ylim()[0], highest / 1e4))  # a term that fades out fades to nothing
    if percent:
        axes.set_ylim(0, max(axes.get_ylim()[1], 5))  # of a run that has learned nothing yet too
    if named:
        # As labels of the curves, names that begin with _ would be left out.
        curves, names = zip(*named, strict=True)
        axes.legend(curves, names, frameon=False, loc="lower right")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    return figure


def shares(names: Sequence[str], steps: Sequence[float], values: Mapping[str, Sequence[float]]) -> Figure:
    """Draw shares that add up to 100% as areas on each other, the first name at the bottom."""
    figure = new_figure()
    axes = figure.add_subplot()
    axes.stackplot(
        steps, [values[name] for name in names], colors=[colour(n) for n in range(len(names))], edgecolor=PAPER,
        linewidth=0.5, alpha=0.85,
    )  # fmt: skip
    axes.set_ylim(0, 100)
    axes.set_xlim(min(steps), max(*steps, min(steps) + 1))  # one step alone has no width
    axes.set_xlabel("step")
    axes.set_ylabel("share of the gradient, %")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    return figure


def accuracy_by_bin(series: Sequence[tuple[int, Sequence[Bin]]], xlabel: str) -> Figure:
    """Draw accuracies of kinds of words with their intervals; the readers beside each other in each bin.

    Args:
        series: each reader's number and its bins, the same for all.
        xlabel: what the bins are of.
    """
    figure = new_figure()
    axes = figure.add_subplot()
    for place, (number, bins) in enumerate(series):
        x = [at + 0.6 * ((place + 0.5) / len(series) - 0.5) for at in range(len(bins))]
        for at, each in zip(x, bins, strict=True):
            axes.plot([at, at], each.tally.interval, color=colour(number), linewidth=1.6, alpha=0.6)
        axes.plot(x, [each.tally.accuracy for each in bins], marker(number), color=colour(number), markersize=5)
    names = series[0][1]
    axes.set_xticks(range(len(names)), [each.name for each in names])
    if sum(len(each.name) for each in names) > 20:
        axes.tick_params(axis="x", labelrotation=45)
    axes.grid(axis="x", visible=False)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(top=min(102, axes.get_ylim()[1]))
    axes.set_xlabel(xlabel)
    axes.set_ylabel("word accuracy, %")
    return figure


def accuracy_by_character(series: Sequence[tuple[int, Mapping[str, Tally]]], characters: Sequence[str]) -> Figure:
    """Draw how often each character of the labels was read, one marker a reader.

    Args:
        series: each reader's number and its scores by character.
        characters: which to draw, in this order.
    """
    figure = new_figure(width=940, height=260)
    axes = figure.add_subplot()
    for place, (number, scores) in enumerate(series):
        accuracies = [scores[char].accuracy for char in characters]
        x = [at + 0.5 * ((place + 0.5) / len(series) - 0.5) for at in range(len(characters))]
        axes.plot(x, accuracies, marker(number), color=colour(number), markersize=5.5)
    axes.set_xticks(range(len(characters)), ["␣" if char == " " else char for char in characters])
    axes.set_xlim(-0.7, len(characters) - 0.3)
    axes.set_ylim(top=min(101.5, axes.get_ylim()[1]))
    axes.set_ylabel("characters read, %")
    axes.set_xlabel("character of the label, the most frequent first")
    return figure


def reliability(series: Sequence[tuple[int, Sequence[tuple[float, Tally]]]]) -> Figure:
    """Draw accuracy against confidence; on the diagonal a confidence says how often it is right.

    Args:
        series: each reader's number and its bins of the confidence.
    """
    figure = new_figure(height=330)
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    for number, bins in series:
        for sure, tally in bins:
            axes.plot([sure, sure], tally.interval, color=colour(number), linewidth=1.4, alpha=0.5)
        x, y = [sure for sure, _ in bins], [tally.accuracy for _, tally in bins]
        axes.plot(x, y, marker=marker(number), color=colour(number), markeredgecolor=PAPER)
    axes.set_xlim(0, 101)
    axes.set_ylim(0, 101)
    axes.set_xlabel("confidence, %")
    axes.set_ylabel("word accuracy, %")
    return figure


def coverage(series: Sequence[tuple[int, Sequence[tuple[float, float]]]]) -> Figure:
    """Draw how many of the accepted words are right against how many are accepted.

    Args:
        series: each reader's number and its points.
    """
    figure = new_figure(height=330)
    axes = figure.add_subplot()
    axes.axhline(AIM, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    lowest = 100.0
    for number, points in series:
        kept = [point for point in points if point[0] >= 1] or list(points)  # the first words alone are noise
        lowest = min(lowest, *(right for _, right in kept))
        axes.plot([share for share, _ in kept], [right for _, right in kept], color=colour(number))
    axes.set_xlim(0, 100)
    axes.set_ylim(max(lowest - 2, 0), 100.5)
    axes.set_xlabel("words accepted, % (the surest first)")
    axes.set_ylabel("right of those, %")
    return figure
