"""report.html: what a report and its readings tell, as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from distill.evaluation import curves
from distill.evaluation.compare import Comparison
from distill.evaluation.metrics import Tally
from distill.evaluation.page import charts
from distill.evaluation.page.galleries import LoadPicture, make_galleries
from distill.evaluation.page.rendering import Chart, Table, chart, render
from distill.evaluation.page.svg import drawing
from distill.evaluation.page.word_sections import WordSections, legend
from distill.evaluation.readings import ReadWord, collect_readings, write_readings
from distill.evaluation.stored_reports import averaged_sets, subject, tally_of, total
from distill.evaluation.tables import (
    PAIR_COUNTS,
    TITLES,
    interval_text,
    millions,
    pair_rows,
    score_cells,
    warnings,
)
from students.files import write_file

PAGE = "report.html"


def write_page(
    folder: Path, report: Mapping[str, Any], comparison: Comparison, metrics: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Write readings.jsonl and report.html beside report.json, each whole or not at all.

    Args:
        folder: where report.json is.
        report: the comparison's report.
        comparison: what it was built from.
        metrics: what the run of the student has logged, for its loss terms; empty without a run.

    Returns:
        The page.
    """
    words = collect_readings(comparison)
    write_readings(folder, words)
    sets = {benchmark.name: benchmark for benchmark in comparison.benchmarks}
    with drawing():
        page = ReportPage(report, words, lambda name, number: sets[name].load(number), metrics)
        write_file(folder / PAGE, render("report.html", page.values()))
    return folder / PAGE


class ReportPage:
    """The values of the template, a method a section; use it while `drawing`.

    Args:
        report: see docs/reference/report-json.md.
        words: its readings.
        load_picture: loads a word's picture.
        metrics: what the run of the student has logged, for its loss terms.
    """

    def __init__(
        self, report: Mapping[str, Any], words: Sequence[ReadWord], load_picture: LoadPicture,
        metrics: Sequence[Mapping[str, Any]] = (),
    ) -> None:  # fmt: skip
        sets = averaged_sets(report)
        self.report, self.load_picture, self.metrics = report, load_picture, metrics
        self.words = [word for word in words if word.set in sets]  # no word counts twice
        self.readers: list[Mapping[str, Any]] = list(report["readers"])
        self.numbers = {reader["name"]: number for number, reader in enumerate(self.readers)}
        self.opened = [reader for reader in self.readers if reader["reading"] == "open"]
        self.subject = subject(report)["name"]

    def values(self) -> dict[str, Any]:
        """Return what the template shows."""
        names = ", ".join(reader["name"] for reader in self.opened or self.readers)
        config = self.report.get("config") or {}
        words = WordSections(self.words, self.readers, self.subject)
        parts = {
            "accuracy": self.accuracy(), "pairs": self.pairs(), "learning": self.learning(), "terms": self.terms(),
            "words": words.kinds(), "confusions": words.confusions(), "confidence": words.confidence(),
        }  # fmt: skip
        compared = self.compared()
        return {
            **parts,
            "title": config.get("name") if "student" in config and isinstance(config.get("name"), str) else names,
            "kind": "symdistill: training run" if self.report.get("curves") else "symdistill: comparison of readers",
            "verdict": self.report["verdict"],
            "warnings": warnings(self.report),
            "sections": [
                (anchor, title) for anchor, title, there in (
                    ("accuracy", "Accuracy", True), ("differences", "Differences", parts["pairs"]),
                    ("learning", "Learning", parts["learning"]),
                    ("losses", "Losses", parts["terms"]), ("words", "Words", True),
                    ("confusions", "Confusions", parts["confusions"]),
                    ("confidence", "Confidence", parts["confidence"]), ("galleries", "Pictures", True),
                    ("origin", "Origin", True),
                ) if there
            ],
            "galleries": list(make_galleries(self.words, compared, self.subject, self.load_picture)),
            "gallery_legend": legend([reader for reader in self.readers if reader["name"] in compared], self.numbers),
            "numbers": self.numbers,
            "command": self.report["command"] or "called from Python",
            "origin": self.origin(),
            "seconds": Table(["part", "seconds"], [[part, f"{s:,.1f}"] for part, s in self.report["seconds"].items()]),
            "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "",
        }  # fmt: skip

    def mark(self, reader: Mapping[str, Any], tally: Tally) -> charts.Mark:
        """Mark a reader's score."""
        return charts.Mark(self.numbers[reader["name"]], tally.accuracy, tally.interval)

    def compared(self) -> list[str]:
        """Name the readers of the galleries: those that read, and teachers that choose."""
        return [
            reader["name"] for reader in self.readers
            if reader in self.opened or reader["role"] == "teacher" or not self.opened
        ]  # fmt: skip

    def accuracy(self) -> list[dict[str, Any]]:
        """Accuracy by set, open reading and closed lexicons apart."""
        sets, groups = list(self.readers[0]["benchmarks"]), []
        for reading, title in TITLES.items():
            readers = [reader for reader in self.readers if reader["reading"] == reading]
            if not readers:
                continue
            rows = [
                (name, [self.mark(reader, tally_of(reader["benchmarks"][name])) for reader in readers]) for name in sets
            ]
            if len(averaged_sets(self.report)) > 1:
                rows.append(("all, by word", [self.mark(reader, total(self.report, reader)) for reader in readers]))
            averages = ["by word", "by set"] if len(sets) > 1 else []
            head = ["reader", "role", *sets, *averages, "1-NED", "parameters", "ms a word"]
            table = Table(head, [self.accuracy_row(reader, sets, bool(averages)) for reader in readers], texts=2)
            groups.append(
                {
                    "title": "Open reading" if reading == "open" else "Closed lexicon",
                    "explanation": "Word accuracy in per cent; the lines are 95% intervals (Wilson)."
                    if reading == "open"
                    else f"{title.partition(': ')[2].capitalize()}.",
                    "legend": legend(readers, self.numbers),
                    "charts": [
                        chart(charts.accuracy_by_set(rows), "Word accuracy by set", table=self.detail(readers)),
                        *(self.frontier() if reading == "open" else []),
                    ],
                    "table": table,
                }
            )
        return groups

    def accuracy_row(self, reader: Mapping[str, Any], sets: Sequence[str], averages: bool) -> list[object]:
        """Format a reader's line of the table."""
        entries = [reader["benchmarks"][name] for name in averaged_sets(self.report)]
        similarity = sum(entry["one_minus_ned"] * entry["words"] for entry in entries)
        return [
            reader["name"], reader["role"], *(f"{reader['benchmarks'][name]['accuracy']:.2f}" for name in sets),
            *([f"{reader['average_by_word']:.2f}", f"{reader['average_by_set']:.2f}"] if averages else []),
            f"{similarity / max(sum(entry['words'] for entry in entries), 1):.2f}",
            millions(reader["params"]), f"{reader['ms_per_word']:.1f}",
        ]  # fmt: skip

    def detail(self, readers: Sequence[Mapping[str, Any]]) -> Table:
        """Format every reader and set with counts and interval."""
        rows = [
            [name, reader["name"], entry["hits"], entry["words"], *score_cells(entry)]
            for name in readers[0]["benchmarks"]
            for reader in readers
            for entry in [reader["benchmarks"][name]]
        ]
        head = ["set", "reader", "correct", "words", "accuracy, %", "95% interval", "1-NED, %", "without spaces, %"]
        return Table(head[: len(rows[0])], rows, texts=2)

    def pairs(self) -> Table | None:
        """Format the differences between readers of one kind."""
        pairs = self.report["pairs"]
        rows = [
            [*row[:2], f"{pair['difference']:+.2f}", interval_text(pair["interval"], "+.1f"), *row[2:]]
            for pair, row in zip(pairs, pair_rows(pairs), strict=True)
        ]
        head = ["a", "b", "a − b", "95% interval", *PAIR_COUNTS.values(), "p"]
        return Table(head, rows, texts=2) if rows else None

    def frontier(self) -> list[Chart]:
        """Accuracy against milliseconds of the readers that read openly."""
        places = [
            charts.Place(each["name"], each["ms_per_word"], self.mark(each, total(self.report, each)))
            for each in self.opened
        ]
        if len(places) < 2:
            return []
        caption = "The dashed line joins those that no other is both quicker and better than."
        return [chart(charts.frontier(places), "Accuracy against time", caption)]

    def learning(self) -> dict[str, Any] | None:
        """Validations against steps and against time, student and baseline."""
        rows = {name: each for name, each in self.report.get("curves", {}).items() if each}
        if not rows:
            return None
        table = Table(
            ["reader", "step", "seconds", "accuracy, %", "1-NED, %"],
            [
                [
                    name, f"{row['step']:,}", f"{row['seconds']:,.0f}" if "seconds" in row else "–",
                    f"{row['accuracy']:.2f}", f"{row['one_minus_ned']:.2f}" if "one_minus_ned" in row else "–",
                ]
                for name, each in rows.items() for row in each
            ],
        )  # fmt: skip
        drawn = [
            chart(charts.lines(curve_lines(rows, self.numbers, "step"), "step", "word accuracy, %", percent=True),
                  "Against steps", table=table)
        ]  # fmt: skip
        if all("seconds" in row for each in rows.values() for row in each):
            minutes = curve_lines(rows, self.numbers, "seconds", 60)
            drawn.append(
                chart(charts.lines(minutes, "minutes of training", "word accuracy, %", percent=True), "Against time")
            )
        return {"legend": legend([r for r in self.readers if r["name"] in rows], self.numbers), "charts": drawn}

    def terms(self) -> dict[str, Any] | None:
        """Loss terms and gradient shares over the steps."""
        losses, shares = curves.loss_terms(self.metrics), curves.gradient_shares(self.metrics)
        names = list(dict.fromkeys([*losses, *shares]))
        if not names:
            return None
        series = [charts.Line(names.index(name), *zip(*points, strict=True)) for name, points in losses.items()]
        drawn = []
        if series:
            figure = charts.lines(series, "step", "loss term, weighted", log=True, points=False)
            drawn.append(chart(figure, "Loss terms", "Each as the student learns from it, smoothed."))
        if shares:
            steps = sorted({step for points in shares.values() for step, _ in points})
            filled = {name: [dict(points).get(step, 0.0) for step in steps] for name, points in shares.items()}
            figure = charts.shares([name for name in names if name in shares], steps, filled)
            drawn.append(
                chart(figure, "Gradient shares", "Of a guided step now and then, in the order of the names above.",
                      table=shares_table(steps, filled))
            )  # fmt: skip
        return {"legend": [(number, name, "") for number, name in enumerate(names)], "charts": drawn}

    def origin(self) -> Table:
        """Machine and versions."""
        machine, versions = self.report["machine"], self.report["versions"]
        rows = [[key, value] for key, value in machine.items()] + [[key, value] for key, value in versions.items()]
        return Table(["machine and versions", ""], rows, texts=2)


def curve_lines(
    rows: Mapping[str, Sequence[Mapping[str, float]]], numbers: Mapping[str, int], key: str, unit: float = 1
) -> list[charts.Line]:
    """Turn validations into lines against `key`, in units of `unit`."""
    return [
        charts.Line(numbers[name], [row[key] / unit for row in each], [row["accuracy"] for row in each])
        for name, each in rows.items()
    ]


def shares_table(steps: Sequence[float], filled: Mapping[str, Sequence[float]]) -> Table:
    """Format gradient shares, a line a step."""
    rows = [[f"{step:,.0f}", *(f"{each[at]:.1f}" for each in filled.values())] for at, step in enumerate(steps)]
    return Table(["step", *filled], rows)
