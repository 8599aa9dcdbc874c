"""A run ends with a page to look at, and the page says what report.json and the logs of both trainings say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.commands.distill import main
from distill.evaluation.readings import load_readings
from tests.distill.evaluation.html_pages import PageReader
from tests.runs import rows


def test_verdict_and_curves_are_those_of_the_run(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["eval.baseline=true", "train.validate_every=2", "guidance.interval=2"]
    assert main(["--config", str(config), *options]) == 0
    run = config.parent / "run"
    printed = capsys.readouterr().out
    assert printed.endswith(f"report: {run / 'report.html'}\n")
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    student, baseline = report["readers"]
    assert report["verdict"].startswith(f"mini reads {student['average_by_word']:.2f}% of 7 words of validation")
    assert (
        f"mini-baseline, the same student without a teacher ({baseline['average_by_word']:.2f}%)" in report["verdict"]
    )
    assert report["verdict"] in printed
    text = (run / "report.html").read_text(encoding="utf-8")
    page = PageReader(text)
    assert report["verdict"] in page.texts
    for name, folder in (("mini", run), ("mini-baseline", run / "baseline")):
        validations = [row for row in rows(folder) if row["group"] == "validation"]
        assert [(row["step"], row["accuracy"]) for row in validations] == [
            (point["step"], pytest.approx(point["accuracy"], abs=1e-4)) for point in report["curves"][name]
        ]
        assert [(step, pytest.approx(accuracy, abs=0.005)) for step, accuracy in page.curve(name)] == [
            (point["step"], point["accuracy"]) for point in report["curves"][name]
        ]
        assert all(point["seconds"] > 0 for point in report["curves"][name])
    for term in ("characters", "ctc", "columns", "linguistic1", "visual3", "bridge"):
        assert term in page.texts, "loss terms go by the names of the logs"
    words = load_readings(run / "readings.jsonl")
    assert sum(word.is_hit("mini") for word in words) == student["benchmarks"]["validation"]["hits"]
    assert (run / "baseline" / "report.html").is_file(), "the baseline is a run too"
