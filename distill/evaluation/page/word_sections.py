"""The sections of report.html about words: which are read how well, what is confused, what confidences are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from distill.data.sampling import spread
from distill.evaluation.page import analysis, charts
from distill.evaluation.page.analysis import AIM, HEIGHTS, LENGTHS, Characters
from distill.evaluation.page.rendering import Chart, Table, chart
from distill.evaluation.readings import ReadWord

CHARACTERS = 40
"""Most characters of the alphabet that are drawn."""
CONFUSIONS = 20
"""Confusions that are listed."""


class WordSections:
    """Values of the template, a method a section; use it while `drawing`.

    Args:
        words: the readings.
        readers: the readers as in report.json; each has the colour of its place.
        subject: name of the reader that the page is about.
    """

    def __init__(self, words: Sequence[ReadWord], readers: Sequence[Mapping[str, Any]], subject: str) -> None:
        self.words, self.readers, self.subject = words, readers, subject
        self.numbers = {reader["name"]: number for number, reader in enumerate(readers)}
        self.opened = [reader for reader in readers if reader["reading"] == "open"]

    def kinds(self) -> dict[str, Any]:
        """Accuracy by length, height and character."""
        readers = self.opened or self.readers
        names, drawn = [reader["name"] for reader in readers], []
        measures: tuple[tuple[str, str, Sequence[int], Callable[[ReadWord], int]], ...] = (
            ("By length", "characters of the word", LENGTHS, lambda word: len(word.label)),
            ("By height", "height of the picture, pixels", HEIGHTS, lambda word: word.size[1]),
        )
        for title, xlabel, starts, measure in measures:
            bins = {name: analysis.by_bins(self.words, name, starts, measure) for name in names}
            table = Table(
                [xlabel, "words", *bins],
                [
                    [row[0].name, f"{row[0].tally.words:,}", *(f"{each.tally.accuracy:.1f}" for each in row)]
                    for row in zip(*bins.values(), strict=True)
                ],
            )
            figure = charts.accuracy_by_bin([(self.numbers[name], each) for name, each in bins.items()], xlabel)
            drawn.append(chart(figure, title, table=table))
        if self.opened:
            drawn.append(self.characters())
        return {"legend": legend(readers, self.numbers), "charts": drawn}

    def characters(self) -> Chart:
        """How often each character of the labels was read."""
        aligned = self.aligned
        scores = {name: each.scores for name, each in aligned.items()}
        first = scores[self.subject]
        shown = list(first)[:CHARACTERS]
        table = Table(
            ["character", "times", *scores],
            [
                [
                    "␣" if char == " " else char,
                    f"{tally.words:,}",
                    *(f"{s[char].accuracy:.1f}" for s in scores.values()),
                ]
                for char, tally in first.items()
            ],
        )
        figure = charts.accuracy_by_character([(self.numbers[name], each) for name, each in scores.items()], shown)
        rest = f"The {len(shown)} most frequent of {len(first)}." if len(first) > len(shown) else ""
        return chart(figure, "By character", rest, wide=True, table=table)

    @cached_property
    def aligned(self) -> dict[str, Characters]:
        """Labels aligned with readings, for all readers that read openly."""
        return {reader["name"]: analysis.by_characters(self.words, reader["name"]) for reader in self.opened}

    def confusions(self) -> Table | None:
        """List the subject's most frequent confusions, with how often the others make them."""
        if not self.opened:
            return None
        aligned = self.aligned
        own = aligned[self.subject]
        others = [name for name in aligned if name != self.subject]
        rows = [
            [
                f"{show(pair[0])} → {show(pair[1])}", "{} → {}".format(*own.examples[pair]),
                count, *(aligned[name].confusions[pair] for name in others),
            ]
            for pair, count in own.confusions.most_common(CONFUSIONS)
        ]  # fmt: skip
        return (
            Table(["label → read", f"as {self.subject} read", self.subject, *others], rows, texts=2) if rows else None
        )

    def confidence(self) -> dict[str, Any] | None:
        """What confidences are worth, and the threshold that makes `AIM` per cent right."""
        if not self.opened or not self.words:
            return None
        found = {reader["name"]: analysis.reliability(self.words, reader["name"]) for reader in self.opened}
        rows = []
        for name, each in found.items():
            if (best := each.threshold) is None:
                accepted = ["–", "–", "–"]
            else:
                low, high = best.accepted.interval
                accepted = [f"{best.confidence:.6f}", f"{best.covered:.1f}", f"{low:.1f} to {high:.1f}"]
            rows.append([name, *accepted, f"{each.error:.1f}"])
        own = found[self.subject].threshold
        sentence = (
            f"No threshold of its confidence makes {AIM:g}% of what is accepted from {self.subject} right."
            if own is None
            else f"Accept {self.subject}'s readings from a confidence of {own.confidence:.6f} on, and {AIM:g}% of them "
            f"are right; that covers {own.covered:.1f}% of the words. The threshold was chosen on these very words, so "
            "expect a little less on others."
        )
        series = [(self.numbers[name], each) for name, each in found.items()]
        return {
            "sentence": sentence,
            "legend": legend(self.opened, self.numbers),
            "charts": [
                chart(charts.reliability([(number, each.bins) for number, each in series]), "Reliability",
                      "On the dashed line a confidence says how often it is right."),
                chart(charts.coverage([(number, thinned(each.coverage)) for number, each in series]), "Coverage",
                      f"The dashed line is at {AIM:g}%."),
            ],
            "table": Table(
                ["reader", f"threshold for {AIM:g}%", "covers, %", "right of those, 95% interval", "calibration error"],
                rows,
            ),
        }  # fmt: skip


def legend(readers: Sequence[Mapping[str, Any]], numbers: Mapping[str, int]) -> list[tuple[int, str, str]]:
    """List marker, name and role of readers."""
    return [
        (
            numbers[reader["name"]], reader["name"],
            reader["role"] + (", chooses from a lexicon" if reader["reading"] != "open" else ""),
        )
        for reader in readers
    ]  # fmt: skip


def thinned(points: Sequence[tuple[float, float]], most: int = 200) -> list[tuple[float, float]]:
    """Keep at most `most` points, the last among them."""
    return [*spread(points[:-1], most - 1), points[-1]]


def show(character: str) -> str:
    """Write a character so that it can be seen."""
    return {"": "–", " ": "␣"}.get(character, character)
