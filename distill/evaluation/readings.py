"""readings.jsonl: every word of a comparison with what each reader read, beside report.json. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from students.errors import UserError
from students.files import write_file

if TYPE_CHECKING:
    from distill.evaluation.compare import Comparison

READINGS = "readings.jsonl"


@dataclass(frozen=True)
class ReadWord:
    """One word as every reader read it."""

    set: str
    """Name of its set."""
    number: int
    """Its number among the words of the set that are scored, from 0."""
    record: str
    """Where it is stored, as messages name it."""
    label: str
    """The true word, after the label rules."""
    size: tuple[int, int]
    """Width and height of its picture, pixels."""
    readings: dict[str, tuple[str, float]]
    """By reader: what it read, after the rule for predictions, and its confidence."""

    def is_hit(self, reader: str) -> bool:
        """Tell whether a reader read it exactly."""
        return self.readings[reader][0] == self.label


def collect_readings(comparison: Comparison) -> list[ReadWord]:
    """List every word of every set of a comparison."""
    return [
        ReadWord(
            benchmark.name, number, benchmark.records.describe(benchmark.positions[number]), label,
            comparison.sizes[benchmark.name][number],
            {
                reader.name: (
                    reader.sets[benchmark.name].predictions[number],
                    reader.sets[benchmark.name].confidences[number],
                )
                for reader in comparison.readers
            },
        )
        for benchmark in comparison.benchmarks
        for number, label in enumerate(benchmark.labels)
    ]  # fmt: skip


def write_readings(folder: Path, words: Sequence[ReadWord]) -> None:
    """Write readings.jsonl, one word a line, whole or not at all."""
    lines = [
        json.dumps(
            {
                "set": word.set, "number": word.number, "record": word.record, "label": word.label,
                "size": list(word.size),
                "readings": {name: [text, round(sure, 6)] for name, (text, sure) in word.readings.items()},
            },
            ensure_ascii=False,
        )
        for word in words
    ]  # fmt: skip
    write_file(folder / READINGS, "".join(f"{line}\n" for line in lines))


def load_readings(path: Path) -> list[ReadWord]:
    """Read a readings.jsonl.

    Raises:
        UserError: when it can't be read, or is no such file.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [_parse(json.loads(line)) for line in lines if line]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; evaluate again") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} has lines that are no readings; evaluate again") from None


def _parse(row: dict[str, Any]) -> ReadWord:
    width, height = row["size"]
    readings = {name: (str(text), float(sure)) for name, (text, sure) in row["readings"].items()}
    return ReadWord(
        str(row["set"]), int(row["number"]), str(row["record"]), str(row["label"]), (int(width), int(height)), readings
    )
