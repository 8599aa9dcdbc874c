"""Runs that follow each other in one Python process, as in a notebook: each as if it were the first."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState

from distill.config import Config, load_config
from distill.training.distill_run import Result, distill
from students.errors import UserError


def run(config: Path, name: str, *overrides: str) -> Result:
    wanted = load_config(Config, config, [f"out={config.parent / name}", "train.steps=2", *overrides])
    return distill(wanted)


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
    wanted = load_config(Config, config, [f"out={config.parent / 'run'}", "train.steps=2"])
    assert distill(wanted, overwrite=True).finished, "the first run has let the folder go"
    assert distill(wanted, resume="auto").finished
