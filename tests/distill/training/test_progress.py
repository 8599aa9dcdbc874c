"""The progress of a run: metrics.jsonl and TensorBoard, plain lines, a bar, and a log."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.training.progress import Tracker, TrainingProgress, format_duration


def test_numbers_go_to_both(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    tracker.log(1, "train", {"loss": 2.5, "rate": 1.0})
    tracker.log(2, "train", {"loss": 2.0, "rate": 0.5})
    tracker.picture(2, "words", np.zeros((8, 8, 3), np.uint8))
    tracker.close()
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "group": "train", "loss": 2.5, "rate": 1.0},
        {"step": 2, "group": "train", "loss": 2.0, "rate": 0.5},
    ]
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [(1, 2.5), (2, 2.0)]
    assert board.Tags()["images"] == ["words"]


def test_a_resumed_run_writes_no_step_twice(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path)
    for step in range(1, 6):
        tracker.log(step, "train", {"loss": float(step)})
    tracker.close()
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 6, "gro')  # killed while it wrote
    Tracker(tmp_path, resumed_step=3).close()
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    assert not list(tmp_path.glob(".*"))


def test_plain_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    output = io.StringIO()
    log = tmp_path / "log.txt"
    with TrainingProgress(Console(file=output, width=40), 10, done=4, log=log) as progress:
        progress.step(5, 3.25, 8, logged=False)
        progress.step(6, 3.125, 8, logged=True)
        progress.validated(6, {"word accuracy": 12.5, "1-NED": 50.0})
        progress.step(7, 3.1, 8, logged=True)
        progress.step(10, 3.0, 8, logged=True)
    lines = output.getvalue().splitlines()
    assert len(lines) == 4, "one line each, however narrow"
    assert re.fullmatch(r"step 6/10  loss 3\.125  \d+ words/s  1 min left", lines[0])
    assert lines[1] == "step 6/10  word accuracy 12.50%  1-NED 50.00%"
    assert re.fullmatch(r"step 7/10  loss 3\.100  \d+ words/s  1 min left", lines[2]), "no accuracy that is known"
    assert re.fullmatch(r"step 10/10  loss 3\.000  \d+ words/s", lines[3])
    assert log.read_text(encoding="utf-8").splitlines() == lines


def test_a_terminal_gets_a_bar_and_the_log_the_lines(tmp_path: Path) -> None:
    output = io.StringIO()
    log = tmp_path / "log.txt"
    with TrainingProgress(Console(file=output, width=160, force_terminal=True), 10, log=log) as progress:
        progress.step(6, 3.125, 8, logged=True)
        progress.validated(6, {"word accuracy": 12.5, "1-NED": 50.0})
        progress.step(7, 3.0, 8, logged=False)
    assert "7/10" in output.getvalue()
    assert "word accuracy 12.50%" in output.getvalue()
    assert "step 6/10" not in output.getvalue()
    assert len(log.read_text(encoding="utf-8").splitlines()) == 2


def test_other_processes_print_nothing(tmp_path: Path) -> None:
    output = io.StringIO()
    with TrainingProgress(Console(file=output), 10, visible=False, log=tmp_path / "log.txt") as progress:
        progress.step(6, 3.125, 8, logged=True)
        progress.validated(6, {"word accuracy": 12.5})
    assert output.getvalue() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "written"), [(1, "1 min"), (60, "1 min"), (3601, "1 h 01 min"), (36000, "10 h 00 min")]
)
def test_times_are_hours_and_minutes(seconds: float, written: str) -> None:
    assert format_duration(seconds) == written
