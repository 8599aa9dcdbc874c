"""What a run tells: metrics.jsonl and TensorBoard, plain lines and a log, and the precision it takes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from distill.training.precision import choose_precision
from distill.training.progress import TrainingProgress
from distill.training.tracking import Tracker


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
    said = io.StringIO()
    log = tmp_path / "log.txt"
    with TrainingProgress(Console(file=said, width=40), 10, done=4, log=log) as progress:
        progress.step(5, 3.25, 8, say=False)
        progress.step(6, 3.125, 8, say=True)
        progress.validated(6, 12.5, 50.0)
        progress.step(10, 3.0, 8, say=True)
    lines = said.getvalue().splitlines()
    assert len(lines) == 3, "one line each, however narrow"
    assert lines[0].startswith("step 6/10  loss 3.125")
    assert "words/s" in lines[0]
    assert "not validated yet" in lines[0]
    assert "left" in lines[0]
    assert "words right 12.50% 1-NED 50.00% @6" in lines[1]
    assert "words right 12.50%" in lines[2]
    assert log.read_text(encoding="utf-8").splitlines() == lines


def test_a_terminal_gets_a_bar_and_the_log_the_lines(tmp_path: Path) -> None:
    said = io.StringIO()
    log = tmp_path / "log.txt"
    with TrainingProgress(Console(file=said, width=160, force_terminal=True), 10, log=log) as progress:
        progress.step(6, 3.125, 8, say=True)
        progress.validated(6, 12.5, 50.0)
        progress.step(7, 3.0, 8, say=False)
    assert "7/10" in said.getvalue()
    assert "words right 12.50%" in said.getvalue()
    assert "step 6/10" not in said.getvalue()
    assert len(log.read_text(encoding="utf-8").splitlines()) == 2


def test_other_processes_say_nothing(tmp_path: Path) -> None:
    said = io.StringIO()
    with TrainingProgress(Console(file=said), 10, shown=False, log=tmp_path / "log.txt") as progress:
        progress.step(6, 3.125, 8, say=True)
        progress.validated(6, 12.5, 50.0)
    assert said.getvalue() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_bf16": False, "amx_bf16": False}, "no")],
)
def test_auto_takes_bf16_where_the_processor_has_it(
    capabilities: dict[str, bool], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto") == chosen


@pytest.mark.parametrize("wanted", ["no", "bf16", "fp16"])
def test_a_precision_asked_for_is_taken(wanted: str) -> None:
    assert choose_precision(wanted) == wanted  # type: ignore[arg-type]
