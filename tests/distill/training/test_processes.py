"""Two processes count right, and half precisions step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distill.commands.distill import main
from students.student import Student

ROOT = Path(__file__).resolve().parents[3]


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def test_two_processes_count_right(config: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        str(ROOT / "tools" / "distill.py"), "--config", str(config), "train.steps=3", "train.validate_every=2",
        "optim.scale_lr=true", "optim.schedule=cosine", "optim.warmup=0", "guidance.every=2",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("world size 2: 2 processes on cpu")
    assert done.stdout.count("world size") == 1, "one process speaks"
    run = config.parent / "run"
    validations = [row for row in rows(run) if row["group"] == "validation"]
    assert [(row["step"], row["words"]) for row in validations] == [(2, 7), (3, 7)]
    assert rows(run)[0]["learning_rate"] == pytest.approx(1e-3 * 2**0.5 * 6 / 256, rel=1e-6), "the published rule"
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    scored = report["readers"][0]["benchmarks"]["validation"]
    best = max(validations, key=lambda row: row["accuracy"])
    # Process 1 has seen other words in the last step: what it validates with must still be what is delivered.
    assert (scored["words"], scored["accuracy"]) == (7, pytest.approx(best["accuracy"], abs=0.01))
    assert scored["one_minus_ned"] == pytest.approx(best["one_minus_ned"], abs=0.01)
    Student.from_pretrained(run / "student")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precisions_step_or_are_refused(precision: str, config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = main(["--config", str(config), f"train.precision={precision}", "train.steps=2"])
    out, errors = capfd.readouterr()
    if code == 2:  # accelerate knows better what a machine computes in
        assert errors.count("\n") == 1
        assert f"train.precision={precision}" in errors
        return
    assert code == 0
    assert f"precision {precision}" in out
    logged = rows(config.parent / "run")
    assert [row["group"] for row in logged] == ["train", "train", "validation"]
    assert all(value == value for row in logged for value in row.values()), "nothing is NaN"


def test_a_precision_that_can_not_be_had_is_the_users_mistake(
    config: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("fp16 mixed precision requires a GPU (not 'cpu').")

    monkeypatch.setattr("distill.training.run.Accelerator", refuse)
    assert main(["--config", str(config), "train.precision=fp16"]) == 2
    assert "train.precision=fp16 can't be had here" in capfd.readouterr().err
    assert not (config.parent / "run").exists()
