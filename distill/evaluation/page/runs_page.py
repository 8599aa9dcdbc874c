"""The comparison of several runs as one page, beside the same figures as compare.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from distill.evaluation.page import charts
from distill.evaluation.page.charts import Line, Mark, Place
from distill.evaluation.page.rendering import Chart, Table, chart, render
from distill.evaluation.page.svg import drawing, write_pictures
from distill.evaluation.runs import Difference, Estimate, Group, differences, differing_keys, shared_sets, warnings_of
from distill.evaluation.stored_reports import averaged_sets
from distill.evaluation.tables import interval_text, millions
from students.files import write_file

PAGE, FIGURES = "compare.html", "compare.json"
SCHEMA = 1


def build_comparison(groups: Sequence[Group], command: str) -> dict[str, Any]:
    """Return the figures of a comparison of runs, as docs/reference/report-json.md describes them.

    Args:
        groups: two or more.
        command: the command line.
    """
    found = differences(groups)
    keys = differing_keys(groups)
    lines = warnings_of([run for group in groups for run in group.runs])
    return {
        "schema": SCHEMA,
        "verdict": verdict_of(groups, found),
        "command": command,
        "groups": [
            {
                "name": group.name,
                "runs": [run.folder for run in group.runs],
                "seeds": group.seeds,
                "settings": {key: values[number] for key, values in keys.items()},
                "accuracy": estimate_entry(group.accuracy),
                "benchmarks": {name: estimate_entry(group.accuracy_of(name)) for name in shared_sets(groups)},
                "params": group.runs[0].reader["params"],
                "ms_per_word": round(group.ms_per_word, 3),
                "train_seconds": [run.report.get("seconds", {}).get("train") for run in group.runs],
                "curve": [{key: round(value, 4) for key, value in point.items()} for point in group.curve()],
            }
            for number, group in enumerate(groups)
        ],
        "differences": [
            {"name": each.name, "against": each.against, **estimate_entry(each.estimate), "paired_seeds": each.pairs}
            for each in found
        ],
        **({"warnings": lines} if lines else {}),
    }


def estimate_entry(estimate: Estimate) -> dict[str, Any]:
    """Return a number with its interval, and what that is over."""
    interval = None if estimate.interval is None else [round(bound, 4) for bound in estimate.interval]
    return {"value": round(estimate.value, 4), "interval": interval, "over": estimate.over}


def verdict_of(groups: Sequence[Group], found: Sequence[Difference]) -> str:
    """Write which runs read most, and by how much they are ahead of the first; if they are the first, of the next."""
    ranked = sorted(groups, key=lambda group: -group.accuracy.value)
    best = ranked[0]
    other = groups[0] if best is not groups[0] else ranked[1]
    each = next(each for each in found if {each.name, each.against} == {best.name, other.name})
    sign = 1 if each.name == best.name else -1
    seeds = f", the mean of {len(best.runs)} seeds" if len(best.runs) > 1 else ""
    words = best.runs[0].tally.words
    opening = f"{best.name} reads most of {words:,} words, {best.accuracy.value:.2f}%{seeds}"
    value = sign * each.estimate.value
    ahead = f"{abs(value):.2f} points more than {other.name}"
    if each.estimate.interval is None:
        return f"{opening}: {ahead}; without an interval, so it may be chance."
    low, high = sorted(sign * bound for bound in each.estimate.interval)
    over = "over seeds" if each.estimate.over == "seeds" else "over the words of one seed each"
    if value < 0:  # of the seeds that both have, which need not say what the means do
        return (
            f"{opening}. Of the {each.pairs} seeds that both have, {other.name} reads {-value:.2f} points more (95% "
            f"interval {over} {-high:+.2f} to {-low:+.2f}): they don't agree on which is ahead."
        )
    doubt = "" if low > 0 else "; they can't be told apart"
    return f"{opening}: {ahead} (95% interval {over} {low:+.2f} to {high:+.2f}){doubt}."


def write_runs_page(folder: Path, groups: Sequence[Group], figures: Mapping[str, Any]) -> Path:
    """Write compare.html and compare.json into a folder, each whole or not at all.

    Args:
        folder: created when it isn't there.
        groups: the runs.
        figures: what `build_comparison` gave for them.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with drawing():
        page = render("runs.html", page_values(groups, figures))
    write_file(folder / FIGURES, json.dumps(figures, indent=2, allow_nan=False) + "\n")
    write_file(folder / PAGE, page)
    return folder / PAGE


def page_values(groups: Sequence[Group], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template shows; use it while `drawing`."""
    numbers = {group.name: number for number, group in enumerate(groups)}
    learning = learning_charts(groups)
    keys = differing_keys(groups)
    return {
        "title": " · ".join(numbers),
        "kind": "symdistill: comparison of runs",
        "verdict": figures["verdict"],
        "sections": [
            ("accuracy", "Accuracy"), ("differences", "Differences"),
            *([("learning", "Learning")] if learning else []),
            *([("settings", "Settings")] if keys else []), ("runs", "Runs"),
        ],
        "warnings": figures.get("warnings", []),
        "legend": [(number, name, "") for name, number in numbers.items()],
        "accuracy": accuracy_charts(groups),
        "table": group_table(groups),
        "differences": difference_table(figures["differences"]),
        "learning": learning,
        "settings": Table(["key", *numbers], [[key, *values] for key, values in keys.items()], texts=1 + len(numbers)),
        "runs": Table(
            ["run", "group", "seed", "accuracy, %", "training, s", "processor"],
            [
                [
                    run.folder, group.name, run.seed, f"{run.tally.accuracy:.2f}",
                    "–" if (seconds := run.report.get("seconds", {}).get("train")) is None else f"{seconds:,.0f}",
                    (run.report.get("machine") or {}).get("processor", "–"),
                ]
                for group in groups for run in group.runs
            ],
            texts=2,
        ),
        "command": figures["command"],
    }  # fmt: skip


def accuracy_charts(groups: Sequence[Group]) -> list[Chart]:
    """Draw accuracy by set, and against time."""
    sets = shared_sets(groups)
    rows = [(name, [marked(number, group.accuracy_of(name)) for number, group in enumerate(groups)]) for name in sets]
    if len(averaged_sets(groups[0].runs[0].report)) > 1:
        rows.append(("all, by word", [marked(number, group.accuracy) for number, group in enumerate(groups)]))
    places = [
        Place(group.name, group.ms_per_word, marked(number, group.accuracy)) for number, group in enumerate(groups)
    ]
    return [
        chart(charts.accuracy_by_set(rows), "Word accuracy by set"),
        chart(charts.frontier(places), "Accuracy against time", "The dashed line joins those that no other is both "
              "quicker and better than."),
    ]  # fmt: skip


def marked(number: int, estimate: Estimate) -> Mark:
    """Mark an estimate."""
    return Mark(number, estimate.value, estimate.interval)


def group_table(groups: Sequence[Group]) -> Table:
    """Format a line a group, with accuracy by set."""
    sets = shared_sets(groups)
    rows = [
        [
            group.name, ", ".join(map(str, group.seeds)), *(f"{group.accuracy_of(name).value:.2f}" for name in sets),
            *([f"{group.accuracy.value:.2f}"] if len(sets) > 1 else []),
            f"{interval_text(group.accuracy.interval)} ({group.accuracy.over})",
            millions(group.runs[0].reader["params"]), f"{group.ms_per_word:.1f}",
        ]
        for group in groups
    ]  # fmt: skip
    head = ["runs", "seeds", *sets, *(["by word"] if len(sets) > 1 else []), "95% interval", "parameters", "ms a word"]
    return Table(head, rows, texts=2)


def difference_table(found: Sequence[Mapping[str, Any]]) -> Table:
    """Format the differences, as they stand in compare.json."""
    rows = [
        [
            each["name"], each["against"], f"{each['value']:+.2f}",
            interval_text(each["interval"], "+.2f"), described(each),
        ]
        for each in found
    ]  # fmt: skip
    return Table(["runs", "against", "difference, points", "95% interval", "over"], rows, texts=2)


def described(each: Mapping[str, Any]) -> str:
    """Say what the interval of a difference is over."""
    if each["interval"] is None:
        return "no readings"
    if each["over"] == "words":
        return "words, one seed each"
    return f"{each['paired_seeds']} pairs of one seed" if each["paired_seeds"] else "seeds, unpaired"


def learning_charts(groups: Sequence[Group]) -> list[Chart]:
    """Draw validations against steps and time; a band reaches from the lowest seed to the highest."""
    table = Table(
        ["runs", "step", "seconds", "accuracy, %", "lowest", "highest"],
        [
            [
                group.name, f"{point['step']:,.0f}", f"{point['seconds']:,.0f}" if "seconds" in point else "–",
                f"{point['accuracy']:.2f}", f"{point['low']:.2f}", f"{point['high']:.2f}",
            ]
            for group in groups for point in group.curve()
        ],
    )  # fmt: skip
    tables = {"steps": table}
    return [
        chart(figure, f"Against {what}", table=tables.get(what)) for what, figure in learning_figures(groups).items()
    ]


def learning_figures(groups: Sequence[Group], named: bool = False) -> dict[str, Figure]:
    """Draw validations against `steps` and against `time`, those of the two that the runs have logged.

    Args:
        groups: the runs.
        named: name them within the figures, which are so wide that two stand beside each other in a README.
    """
    drawn = [(number, group.curve(), group.name if named else "") for number, group in enumerate(groups)]
    drawn = [each for each in drawn if each[1]]
    timed = [each for each in drawn if all("seconds" in point for point in each[1])]
    asked = {"steps": ("step", 1, "step", drawn), "time": ("seconds", 60, "minutes of training", timed)}
    return {
        what: charts.lines(
            [curve_line(number, points, key, unit, name) for number, points, name in curves], xlabel,
            "word accuracy, %", percent=True, width=400 if named else 430,
        )
        for what, (key, unit, xlabel, curves) in asked.items() if curves
    }  # fmt: skip


def write_curves(folder: Path, groups: Sequence[Group]) -> list[Path]:
    """Write the learning curves into a folder that exists, as SVG and PNG: `curve-steps` and `curve-time`."""
    with drawing():
        figures = learning_figures(groups, named=True)
        return [file for what, figure in figures.items() for file in write_pictures(figure, folder / f"curve-{what}")]


def curve_line(number: int, points: Sequence[Mapping[str, float]], key: str, unit: float, name: str) -> Line:
    """Turn a group's curve into a line."""
    x = [point[key] / unit for point in points]
    low, high = [point["low"] for point in points], [point["high"] for point in points]
    spread = any(one < other for one, other in zip(low, high, strict=True))
    y = [point["accuracy"] for point in points]
    return Line(number, x, y, low if spread else (), high if spread else (), name=name)
