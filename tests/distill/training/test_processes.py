"""Two processes count right, wait for nobody, and leave together; and half precisions step."""

from __future__ import annotations

import json
import os
import re
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


WAITING = """
import os, sys, time
from pathlib import Path
import torch
from distill.commands.distill import main
from distill.training.distillation_run import DistillationRun

left = Path(sys.argv[1])
deliver = DistillationRun._deliver

def deliver_when_alone(self):
    assert not torch.distributed.is_initialized()
    until = time.monotonic() + 100
    while not left.exists():
        assert time.monotonic() < until, "the other process waits for the comparison"
        time.sleep(0.1)
    deliver(self)

DistillationRun._deliver = deliver_when_alone
code = main(sys.argv[2:])
if os.environ["RANK"] == "1":
    left.write_text(str(code))
sys.exit(code)
"""


def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
    return subprocess.run([*launcher, *command], env=environment, capture_output=True, text=True, timeout=900)


def test_two_processes_count_right_and_the_second_leaves_before_the_comparison(config: Path, tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING, encoding="utf-8")
    done = torchrun(
        str(tmp_path / "waiting.py"), str(tmp_path / "left"), "--config", str(config), "train.steps=3",
        "train.validate_every=2", "optim.scale_lr=true", "optim.schedule=cosine", "optim.warmup=0", "guidance.every=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "left").read_text(encoding="utf-8") == "0"
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


@pytest.mark.slow
def test_a_mistake_that_only_the_first_process_meets_ends_both(config: Path) -> None:
    # The folder can't be made in a file: the first process finds out when it tries, while the second waits for it.
    done = torchrun(str(ROOT / "tools" / "distill.py"), "--config", str(config), f"out={config}/run")
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert told == [f"error: {config}/run can't be made (Not a directory); give another out=FOLDER"]
    codes = re.findall(r"rank\s*: (\d).*\n\s*exitcode\s*: (-?\d+)", done.stderr)
    assert sorted(codes) == [("0", "2"), ("1", "2")], done.stderr


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
