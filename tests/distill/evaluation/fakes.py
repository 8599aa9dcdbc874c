"""Reports and run folders that were never run: readings are given, and what follows from them is computed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from distill.evaluation.metrics import agreement, mcnemar, tally
from distill.evaluation.readings import ReadWord, write_readings
from distill.evaluation.verdict import verdict
from students.files import write_file


def read_words(labels: Sequence[str], **readings: Sequence[tuple[str, float]]) -> list[ReadWord]:
    """Words of one set, each with what every reader read."""
    return [
        ReadWord(
            "signs", number, f"record {number + 1} of signs", label, (40 + number, 8 + 4 * number),
            {name: each[number] for name, each in readings.items()},
        )
        for number, label in enumerate(labels)
    ]  # fmt: skip


def fake_report(
    words: Sequence[ReadWord], roles: Mapping[str, str], closed: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """A report of these readings, in the form of docs/reference/report-json.md."""
    readers = []
    sets = list(dict.fromkeys(word.set for word in words))
    for number, (name, role) in enumerate(roles.items()):
        scored = {}
        for each in sets:
            own = [word for word in words if word.set == each]
            counts = tally([word.readings[name][0] for word in own], [word.label for word in own])
            scored[each] = {
                "words": counts.words, "hits": counts.hits, "accuracy": counts.accuracy,
                "interval": list(counts.interval), "one_minus_ned": counts.one_minus_ned,
            }  # fmt: skip
        total = sum(entry["hits"] for entry in scored.values()) / len(words) * 100
        readers.append(
            {
                "name": name, "role": role, "reading": "closed-lexicon" if name in closed else "open",
                "params": 1_000_000 * (number + 1), "charset": "abc", "ms_per_word": 2.0 + 3 * number,
                "benchmarks": scored, "average_by_word": total,
                "average_by_set": sum(entry["accuracy"] for entry in scored.values()) / len(scored),
            }
        )  # fmt: skip
    pairs = []
    for one, other in combinations([reader for reader in readers if reader["reading"] == "open"], 2):
        hits = [[word.is_hit(each["name"]) for word in words] for each in (one, other)]
        counted = agreement(*hits)
        pairs.append(
            {
                "a": one["name"], "b": other["name"], "words": counted.words, "only_a": counted.only_a,
                "only_b": counted.only_b, "both": counted.both, "neither": counted.neither,
                "p": mcnemar(counted.only_a, counted.only_b), "difference": counted.difference,
                "interval": list(counted.interval), "benchmarks": {},
            }
        )  # fmt: skip
    report = {
        "command": "symdistill evaluate", "config": None, "seconds": {"total": 1.0},
        "machine": {"platform": "Linux", "processor": "a processor", "cores": 2, "threads": 1, "device": "cpu"},
        "versions": {"python": "3.11", "symdistill": "0.2.0", "torch": "2.15"}, "readers": readers, "pairs": pairs,
        **more,
    }  # fmt: skip
    return {"schema": 2, "verdict": verdict(report), **report}


def write_run(
    folder: Path, seed: int, hits: Sequence[bool], name: str = "mine", readings: bool = True, **config: Any
) -> str:
    """A finished run's folder: its student read the words of `hits`, and was validated twice."""
    labels = [f"w{n}" for n in range(len(hits))]
    words = read_words(labels, **{name: [(label if hit else "", 0.5) for label, hit in zip(labels, hits, strict=True)]})
    final = 100 * sum(hits) / len(hits)
    curve = [
        {"step": 10, "seconds": 60.0, "accuracy": final / 2, "one_minus_ned": 50.0},
        {"step": 20, "seconds": 120.0 + seed, "accuracy": final, "one_minus_ned": 80.0},
    ]
    settings = {"name": name, "out": str(folder), "seed": seed, "student": {"width": 128}, **config}
    report = fake_report(words, {name: "student"}, config=settings, curves={name: curve})
    report["seconds"]["train"] = 120.0
    folder.mkdir(parents=True)
    write_file(folder / "report.json", json.dumps(report))
    if readings:
        write_readings(folder, words)
    return str(folder)
