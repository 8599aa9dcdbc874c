"""Runs that follow each other in one Python process, as in a notebook: each as if it were the first."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from distill.config import load_config
from distill.schema import Config
from distill.training import distill_run
from distill.training.baseline import Baseline
from distill.training.distill_run import Result, distill
from distill.training.progress import Tracker
from losses import registry
from students.errors import UserError


def run(config: Path, name: str, *overrides: str) -> Result:
    expected = load_config(Config, config, [f"out={config.parent / name}", "train.steps=2", *overrides])
    return distill(expected)


def losses(result: Result) -> list[float]:
    lines = (result.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row["loss"] for line in lines if (row := json.loads(line))["group"] == "train"]


def test_any_number_of_runs_of_any_precision(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Accelerate keeps precision and accumulation for the whole process; the second run used to be refused."""
    first = run(config, "first", "train.precision='no'")
    with contextlib.suppress(UserError):  # where fp16 can't be had, the refusal must leave nothing behind either
        assert run(config, "fp16", "train.precision=fp16").finished
    half = run(config, "half", "train.precision=bf16", "train.grad_accum=2", "train.threads=2")
    again = run(config, "again", "train.precision='no'", "train.deterministic=true")
    assert "precision bf16" in capfd.readouterr().out
    assert losses(first) == losses(again), "as if it were the only one"
    assert losses(first) != losses(half)
    for result in (first, half, again):
        assert result.finished
        assert result.step == 2
        assert result.report["readers"][0]["name"] == "mini"
        assert len(result.student.read_batch(torch.zeros(1, 3, 32, 128))) == 1


def test_the_process_is_as_it_was(config: Path) -> None:
    states = [AcceleratorState._shared_state, GradientState._shared_state]
    before = [dict(state) for state in states]
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    drawn = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    run(config, "run", "train.threads=2", "train.deterministic=true")
    assert [dict(state) for state in states] == before
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.rand(1) == expected
    assert (random.getstate(), np.random.get_state()[1].tolist()) == drawn  # noqa: NPY002


def test_nothing_leaves_the_process(config: Path) -> None:
    run(config, "run")
    with pytest.raises(UserError, match="exists; continue it with --resume auto"):
        run(config, "run")
    expected = load_config(Config, config, [f"out={config.parent / 'run'}", "train.steps=2"])
    assert distill(expected, overwrite=True).finished, "the first run has let the folder go"
    assert distill(expected, resume="auto").finished


def test_an_interrupt_saves_and_comes_back(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a notebook: the cell ends, nothing is lost, and the best student so far is there."""
    expected = load_config(Config, config, {"train": {"steps": 6, "validate_every": 2}})
    log = Tracker.log

    def log_and_interrupt(self: Tracker, step: int, group: str, values: dict[str, float]) -> None:
        log(self, step, group, values)
        if step in (1, 3) and group == "train":
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "log", log_and_interrupt)
        first = distill(expected)
        assert (first.finished, first.step, first.report) == (False, 1, {})
        with pytest.raises(UserError, match="stopped before a validation"):
            _ = first.student
        second = distill(expected, resume="auto")
    assert (second.finished, second.step) == (False, 3)
    assert second.student.charset.characters == "0123456789abcdefghijklmnopqrstuvwxyz"
    assert signal.getsignal(signal.SIGINT) is handler
    assert distill(expected, resume="auto").finished


def test_a_run_outside_of_the_main_thread(config: Path) -> None:
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(run(config, "run")))
    thread.start()
    thread.join(120)
    assert [result.finished for result in results] == [True]


PLUGIN = """
from losses.registry import register_loss

@register_loss("brightness", needs=("image",))
def brightness(stages, guidance, scale=1.0):
    return scale * stages.word.square().mean() + 0 * guidance.image[0].mean()
"""


def test_a_loss_of_a_plugin_in_a_run_with_its_baseline(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LOSSES", registry.LOSSES.copy())
    monkeypatch.chdir(config.parent)
    Path("my_brightness.py").write_text(PLUGIN, encoding="utf-8")
    losses = {"brightness": {"weight": 0.5, "options": {"scale": 2.0}}}
    given = {"plugins": ["my_brightness.py"], "losses": losses, "eval.baseline": True, "train.steps": 2}
    result = distill(load_config(Config, config, given))
    assert result.finished
    assert [reader["role"] for reader in result.report["readers"]] == ["student", "baseline"]
    rows = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(row["brightness"] > 0 for row in rows if row["group"] == "train")
    assert "brightness" not in (result.folder / "baseline" / "metrics.jsonl").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="brightness"):
        distill(load_config(Config, config, {**given, "losses.brightness.options": {"size": 1}, "out": "other"}))


def test_a_baseline_that_fails_is_said_while_the_student_trains(
    config: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken(Baseline):
        def start(self) -> None:
            self._process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
            self._process.wait()

    monkeypatch.setattr(distill_run, "Baseline", Broken)
    with pytest.raises(RuntimeError, match="ended with code 3"):
        run(config, "run", "eval.baseline=true")
    told = capfd.readouterr().out.replace("\n", " ")
    assert told.count("the baseline has ended in an error; see") == 1
    assert (config.parent / "run" / "student").is_dir(), "the student's training is kept"


def test_a_loss_that_the_baseline_can_not_know_is_refused_before_the_first_step(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "LOSSES", registry.LOSSES.copy())
    registry.register_loss("mine")(lambda stages: stages.word.square().mean())
    with pytest.raises(UserError, match=r"losses\.mine: the baseline learns by it too"):
        distill(load_config(Config, config, {"losses.mine": 0.5, "eval.baseline": True, "out": "run"}))
