"""The verdict: one sentence that says how well the student reads, beside its baseline, its teacher and the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill.evaluation.metrics import Agreement
from distill.evaluation.stored_reports import averaged_sets, subject, total


def verdict(report: Mapping[str, Any]) -> str:
    """Write the verdict of a report; without a student it is about the first reader that reads openly.

    Accuracies are by word. Differences are on the same words, with a 95% interval, and only between readers of one kind
    of reading; a CLIP's choice from a lexicon is told beside them.
    """
    readers = report["readers"]
    opened = [reader for reader in readers if reader["reading"] == "open"]
    asked = subject(report)
    parts = [opening(report, asked)]
    rivals = [reader for reader in opened if reader is not asked]
    for role, title in (("baseline", "the same student without a teacher"), ("teacher", "the teacher")):
        parts += [against(report, asked, rival, title) for rival in rivals if rival["role"] == role]
    others = [reader for reader in rivals if reader["role"] in ("student", "peer")]
    if others:
        best = max(others, key=lambda reader: float(reader["average_by_word"]))
        parts.append(against(report, asked, best, "the best other reader here" if len(others) > 1 else ""))
    if asked["reading"] == "open":
        closed = [reader for reader in readers if reader["role"] == "teacher" and reader not in opened]
        parts[-1:] = ["; ".join([parts[-1], *(chosen(reader) for reader in closed)])]
    return ", ".join(parts) + "."


def opening(report: Mapping[str, Any], reader: Mapping[str, Any]) -> str:
    """Write how many of the words a reader reads."""
    scored, sets = total(report, reader), averaged_sets(report)
    low, high = scored.interval
    where = f" of {sets[0]}" if len(sets) == 1 else f" of {len(sets)} sets"
    part = "a part of them; " if any(reader["benchmarks"][name].get("partial") for name in sets) else ""
    verb = "reads" if reader["reading"] == "open" else "chooses the right one of given words for"
    return (
        f"{reader['name']} {verb} {scored.accuracy:.2f}% of {scored.words:,} words{where} "
        f"({part}95% interval {low:.1f} to {high:.1f})"
    )


def against(report: Mapping[str, Any], reader: Mapping[str, Any], rival: Mapping[str, Any], title: str) -> str:
    """Write the difference between two readers on the same words, with its interval."""
    pair = pair_of(report, reader["name"], rival["name"])
    low, high = pair.interval
    named = f"{rival['name']}{f', {title}' if title else ''} ({rival['average_by_word']:.2f}%)"
    interval = f"{low:+.1f} to {high:+.1f}" + ("" if low > 0 or high < 0 else ", which these words can't tell apart")
    if pair.only_a == pair.only_b:
        return f"as many ({low:+.1f} to {high:+.1f} points) as {named}"
    more = "more" if pair.difference > 0 else "less"
    return f"{abs(pair.difference):.2f} points {more} ({interval}) than {named}"


def chosen(reader: Mapping[str, Any]) -> str:
    """Write what a teacher that chooses from a lexicon gets right."""
    return (
        f"the teacher {reader['name']} only chooses among given words, which is far easier, and is right for "
        f"{reader['average_by_word']:.2f}%"
    )


def pair_of(report: Mapping[str, Any], a: str, b: str) -> Agreement:
    """Find the counts of two readers on the same words, in this order; raises `KeyError` when they have none."""
    for pair in report["pairs"]:
        if {pair["a"], pair["b"]} == {a, b}:
            only = (pair["only_a"], pair["only_b"]) if pair["a"] == a else (pair["only_b"], pair["only_a"])
            return Agreement(pair["both"], *only, pair["neither"])
    raise KeyError(f"no pair of {a} and {b}")
