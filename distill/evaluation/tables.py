"""Tables of reports and of comparisons of runs, for the terminal and as Markdown."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

TITLES = {
    "open": "Open reading: word accuracy, % (95% interval)",
    "closed-lexicon": "Closed lexicon: word accuracy, %, choosing among given words; not comparable with open reading",
}
AGREEMENTS = {
    "pairs": "Student against teacher: words by who read them",
    "unlike_pairs": "Open student against a teacher that chooses from a lexicon: who was right; no test, "
    "the teacher's task is easier",
}
PAIR_COUNTS = {"words": "words", "both": "both", "only_a": "only a", "only_b": "only b", "neither": "neither"}
AGREEMENT_COUNTS = PAIR_COUNTS | {"only_a": "student only", "only_b": "teacher only"}
MAX_OVERLAPS = 20
"""Overlaps that are listed; the rest is counted."""
MARKUP = re.compile(r"[\\`*\[<&]")
"""What Markdown and HTML take for more than a character."""
AVERAGES = (("average by word", "average_by_word"), ("average by set", "average_by_set"))


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print a report: tables for open reading, closed lexicons, pairs, students against teachers; then the verdict."""
    for reading, title in TITLES.items():
        readers = [reader for reader in report["readers"] if reader["reading"] == reading]
        if readers:
            console.print(Text(title, style="bold"))
            for table in reading_tables(readers, console):
                console.print(table)
    if report["pairs"]:
        console.print(Text("Same words, two readers: McNemar's exact test", style="bold"))
        console.print(pair_table(report["pairs"]))
    for key, title in AGREEMENTS.items():
        if couples := student_teacher(report, key):
            console.print(Text(title, style="bold"))
            console.print(agreement_table(couples))
    for line in (*warnings(report), report["verdict"]):
        console.print(Text(line), soft_wrap=True)


def reading_tables(readers: Sequence[Mapping[str, Any]], console: Console) -> Iterator[Table]:
    """Format readers in one table where the console is wide enough, else with two lines a set, in as few as fit."""
    unlimited = console.options.update(width=sys.maxsize)

    def fits(table: Table) -> bool:
        return Measurement.get(console, unlimited, table).maximum <= console.width

    if fits(table := reading_table(readers)):
        yield table
        return
    start = 0
    for stop in range(2, len(readers) + 1):
        if not fits(reading_table(readers[start:stop], "\n")):
            yield reading_table(readers[start : stop - 1], "\n")
            start = stop - 1
    yield reading_table(readers[start:], "\n")


def reading_table(readers: Sequence[Mapping[str, Any]], between: str = " ") -> Table:
    """Format sets by reader, a column a reader; `between` stands between a score and its interval."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("set", no_wrap=True)
    table.add_column("words", justify="right")
    for reader in readers:
        table.add_column(Text(f"{reader['name']}\n({reader['role']})"), justify="right", overflow="fold")
    for name, first in readers[0]["benchmarks"].items():
        counted = f"{first['words']}{' (part)' if first.get('partial') else ''}"
        table.add_row(Text(name), counted, *(cell(reader["benchmarks"][name], between) for reader in readers))
    table.add_section()
    for title, key in AVERAGES:
        table.add_row(title, "", *(Text(f"{reader[key]:.2f}", style="bold") for reader in readers))
    table.add_section()
    table.add_row("parameters", "", *(millions(reader["params"]) for reader in readers))
    table.add_row("ms a word, CPU", "", *(f"{reader['ms_per_word']:.1f}" for reader in readers))
    return table


def millions(params: int | None) -> str:
    """Format a number of parameters; a dash for a reader that doesn't tell."""
    return "–" if params is None else f"{params / 1e6:.2f} M"


def cell(entry: Mapping[str, Any], between: str = " ") -> str:
    """Format one score: percent with its interval, or with the lexicon's size where there is one."""
    low, high = entry["interval"]
    beside = f"of {entry['lexicon']} words" if "lexicon" in entry else f"{low:.1f}–{high:.1f}"
    return f"{entry['accuracy']:.2f}{between}({beside})"


def interval_text(interval: Sequence[float] | None, form: str = ".1f") -> str:
    """Format an interval; a dash for none."""
    return "–" if interval is None else " to ".join(format(bound, form) for bound in interval)


def score_cells(entry: Mapping[str, Any]) -> list[str]:
    """Format one score as cells: percent, 95% interval, 1-NED, and accuracy without spaces where that was counted."""
    spaces = [f"{entry['accuracy_without_spaces']:.2f}"] if "accuracy_without_spaces" in entry else []
    return [f"{entry['accuracy']:.2f}", interval_text(entry["interval"]), f"{entry['one_minus_ned']:.2f}", *spaces]


def pair_rows(pairs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Format pairs of readers as cells: both names, `PAIR_COUNTS`, p."""
    return [[pair["a"], pair["b"], *(str(pair[key]) for key in PAIR_COUNTS), p_value(pair["p"])] for pair in pairs]


def pair_table(pairs: Sequence[Mapping[str, Any]]) -> Table:
    """Format pairs of readers."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("a", "b"):
        table.add_column(title, overflow="fold")
    for title in (*PAIR_COUNTS.values(), "p"):
        table.add_column(title, justify="right")
    for row in pair_rows(pairs):
        table.add_row(*map(Text, row))
    return table


def p_value(p: float) -> str:
    """Format McNemar's p; below what a float holds, a bound."""
    return f"{p:.3g}" if p else "< 1e-300"


def student_teacher(report: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Select the pairs of a student or baseline with a teacher; a peer is neither."""
    roles = {reader["name"]: reader["role"] for reader in report["readers"]}
    pairs = report.get(key, [])
    learners = ("student", "baseline")
    return [pair for pair in pairs if roles[pair["a"]] in learners and roles[pair["b"]] == "teacher"]


def agreement_rows(pairs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Format pairs set by set, and all sets that are averaged: student, teacher, set, counts."""
    return [
        [pair["a"], pair["b"], name, *(str(counts[key]) for key in AGREEMENT_COUNTS)]
        for pair in pairs
        for name, counts in (*pair["benchmarks"].items(), *([("all", pair)] if len(pair["benchmarks"]) > 1 else []))
    ]


def agreement_table(pairs: Sequence[Mapping[str, Any]]) -> Table:
    """Format students against teachers; a pair's names stand in its first row."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("student", "teacher", "set"):
        table.add_column(title, overflow="fold")
    for title in AGREEMENT_COUNTS.values():
        table.add_column(title.replace(" ", "\n"), justify="right")
    before: list[str] = []
    for row in agreement_rows(pairs):
        if row[:2] != before:
            table.add_section()
        table.add_row(*map(Text, ["", "", *row[2:]] if row[:2] == before else row))
        before = row[:2]
    return table


def warnings(report: Mapping[str, Any]) -> list[str]:
    """List what a reader of the numbers has to know: odd counts, alphabets, what is averaged, overlaps."""
    lines = list(report.get("warnings", []))
    models = {reader["name"]: reader.get("language_model") for reader in report["readers"]}
    if named := [f"{name} ({model})" for name, model in models.items() if model]:
        lines.append(f"read with a language model: {', '.join(named)}")
    if "averaged_sets" in report:
        lines.append(f"averages and pairs are over {', '.join(report['averaged_sets'])}: no word counts twice")
    overlaps = report.get("overlaps")
    if overlaps is not None:
        lines.append(f"overlap check: {overlaps['words']} test words are among those of {overlaps['against']}")
        lines += overlaps["found"][:MAX_OVERLAPS]
        if overlaps["words"] > MAX_OVERLAPS:
            lines.append(f"and {overlaps['words'] - MAX_OVERLAPS} more, listed in report.json")
    return lines


def print_runs(figures: Mapping[str, Any], console: Console) -> None:
    """Print a comparison of runs, the figures of compare.json: accuracies, differences, what to know, the verdict."""
    groups = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("runs", "seeds", "word accuracy, %", "95% interval", "over", "ms a word"):
        groups.add_column(title, overflow="fold", justify="left" if title in ("runs", "seeds", "over") else "right")
    for group in figures["groups"]:
        accuracy = group["accuracy"]
        groups.add_row(
            Text(group["name"]), ", ".join(map(str, group["seeds"])), f"{accuracy['value']:.2f}",
            interval_text(accuracy["interval"]), accuracy["over"], f"{group['ms_per_word']:.1f}",
        )  # fmt: skip
    console.print(groups)
    compared = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("runs", "against", "difference, points", "95% interval", "over"):
        compared.add_column(title, overflow="fold", justify="left" if title in ("runs", "against", "over") else "right")
    for each in figures["differences"]:
        interval = interval_text(each["interval"], "+.2f")
        compared.add_row(Text(each["name"]), Text(each["against"]), f"{each['value']:+.2f}", interval, each["over"])
    console.print(compared)
    for line in (*figures.get("warnings", ()), figures["verdict"]):
        console.print(Text(line), soft_wrap=True)


def to_markdown(report: Mapping[str, Any]) -> str:
    """Format a report as Markdown: verdict, command and machine, readers by set, intervals, pairs."""
    machine = report["machine"]
    parts = [
        "# Comparison", report["verdict"], f"```text\n{report['command']}\n```",
        f"{machine['processor']}, {machine['cores']} cores, {machine['device']}. "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        + ". Times are for one word at a time on one CPU thread, from decoded picture to text.",
    ]  # fmt: skip
    for reading, title in TITLES.items():
        readers = [reader for reader in report["readers"] if reader["reading"] == reading]
        if readers:
            parts += [f"## {title.split(':')[0]}", title.partition(": ")[2].capitalize() + ".", score_lines(readers)]
            parts += ["### Every set", detail_lines(readers)]
    if report["pairs"]:
        table = grid(["a", "b", *PAIR_COUNTS.values(), "p"], pair_rows(report["pairs"]))
        parts += ["## Pairs", "McNemar's exact test on the same words.", table]
    for key, title in AGREEMENTS.items():
        if couples := student_teacher(report, key):
            heading, _, explanation = title.partition(": ")
            table = grid(["student", "teacher", "set", *AGREEMENT_COUNTS.values()], agreement_rows(couples))
            parts += [f"## {heading}", f"{explanation.capitalize()}.", table]
    if lines := warnings(report):
        # Labels and characters in them may look like Markdown or HTML.
        parts += ["## Warnings", "\n".join("- " + MARKUP.sub(r"\\\g<0>", line) for line in lines)]
    return "\n\n".join(parts) + "\n"


def score_lines(readers: Sequence[Mapping[str, Any]]) -> str:
    """Format readers by set, as the field's papers do."""
    names = list(readers[0]["benchmarks"])
    head = ["reader", "role", *names, "average by word", "average by set", "parameters", "ms a word"]
    rows = [
        [
            reader["name"], reader["role"], *(f"{reader['benchmarks'][name]['accuracy']:.2f}" for name in names),
            *(f"{reader[key]:.2f}" for _, key in AVERAGES),
            millions(reader["params"]), f"{reader['ms_per_word']:.1f}",
        ]
        for reader in readers
    ]  # fmt: skip
    return grid(head, rows)


def detail_lines(readers: Sequence[Mapping[str, Any]]) -> str:
    """Format one line a reader and set, with counts, interval and 1-NED."""
    rows = [
        [
            reader["name"], name, entry["words"], entry["hits"], *score_cells(entry),
            *([entry["lexicon"]] if "lexicon" in entry else []),
        ]
        for reader in readers
        for name, entry in reader["benchmarks"].items()
    ]  # fmt: skip
    entries = [entry for reader in readers for entry in reader["benchmarks"].values()]
    spaces = ["without spaces %"] if any("accuracy_without_spaces" in entry for entry in entries) else []
    closed = ["lexicon words"] if any("lexicon" in entry for entry in entries) else []
    head = ["reader", "set", "words", "correct", "word accuracy %", "95% interval", "1-NED %", *spaces, *closed]
    return grid(head, rows)


def grid(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format a Markdown table; a bar in a name is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(entry).replace("|", "\\|") for entry in line) + " |" for line in lines)
