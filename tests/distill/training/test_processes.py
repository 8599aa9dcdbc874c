"""Two processes count right, wait for nobody, and leave together; and half precisions step."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distill.commands.distill import main
from students.student import Student
from tests.launch import free_port
from tests.runs import rows, same_end

ROOT = Path(__file__).resolve().parents[3]


WAITING = """
import os, sys, time
from pathlib import Path
import torch
from distill.commands.distill import main
from distill.training.distill_run import DistillRun

left = Path(sys.argv[1])
report = DistillRun.report

def report_when_alone(self):
    assert not torch.distributed.is_initialized()
    until = time.monotonic() + 100
    while not left.exists():
        assert time.monotonic() < until, "the other process waits for the comparison"
        time.sleep(0.1)
    report(self)

DistillRun.report = report_when_alone
code = main(sys.argv[2:])
if os.environ["RANK"] == "1":
    left.write_text(str(code))
sys.exit(code)
"""


TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}


def torchrun(*command: str) -> subprocess.CompletedProcess[str]:
    launcher = [*TORCHRUN, "--standalone", "--nproc_per_node", "2"]
    return subprocess.run([*launcher, *command], env=ENVIRONMENT, capture_output=True, text=True, timeout=900)


def test_two_processes_count_right_and_the_second_leaves_before_the_comparison(config: Path, tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(WAITING, encoding="utf-8")
    done = torchrun(
        str(tmp_path / "waiting.py"), str(tmp_path / "left"), "--config", str(config), "train.steps=3",
        "train.validate_every=2", "optim.scale_lr=true", "optim.schedule=cosine", "optim.warmup=0",
        "guidance.interval=2",
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
    # Process 1 has seen other words in the last step: what it validates with must still be what is exported.
    assert (scored["words"], scored["accuracy"]) == (7, pytest.approx(best["accuracy"], abs=0.01))
    assert scored["one_minus_ned"] == pytest.approx(best["one_minus_ned"], abs=0.01)
    Student.from_pretrained(run / "student")


@pytest.mark.slow
def test_two_machines_of_one_process_are_one_of_two(write_config: Callable[[Path], Path], tmp_path: Path) -> None:
    options = ["train.steps=4", "train.validate_every=2", "train.grad_accum=2", "guidance.interval=2"]
    configs = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        configs.append(str(write_config(tmp_path / name)))
    tool = str(ROOT / "tools" / "distill.py")
    done = torchrun(tool, "--config", configs[0], *options)
    assert done.returncode == 0, done.stderr
    meet = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", str(free_port())]
    machines = [
        subprocess.Popen(
            [*TORCHRUN, *meet, "--node_rank", str(number), tool, "--config", configs[1], *options],
            env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    outputs = [machine.communicate(timeout=900) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    assert outputs[0][0].startswith("world size 2: 2 processes on cpu")
    assert outputs[1][0] == "", "the second machine says nothing"
    same_end(tmp_path / "one" / "run", tmp_path / "two" / "run")


@pytest.mark.slow
def test_batches_of_two_processes_add_up_as_accumulated_ones_do(
    write_config: Callable[[Path], Path], tmp_path: Path
) -> None:
    # Batch k of process r of two is batch 2k + r of one process. No teacher, whose rows processes would share.
    options = [
        "teacher.name=null", "train.batch_size=2", "train.steps=8", "data.train[0].augmentation=strong",
        "student.dropout=0", "optim.grad_clip=0.5", "optim.ema=0", "optim.lr=0.5", "optim.eps=1",
    ]  # fmt: skip
    # With so large an eps AdamW moves weights by their gradient's size: rounding in gradients of 0 stays small.
    ends = []
    for name, accumulation in (("two", 3), ("one", 6)):
        (tmp_path / name).mkdir()
        words = ["--config", str(write_config(tmp_path / name)), f"train.grad_accum={accumulation}", *options]
        if name == "two":
            done = torchrun(str(ROOT / "tools" / "distill.py"), *words)
            assert done.returncode == 0, done.stderr
        else:
            assert main(words) == 0
        trained = [row for row in rows(tmp_path / name / "run") if row["group"] == "train"]
        weights = load_file(tmp_path / name / "run" / "checkpoints" / "step-00000008" / "model.safetensors")
        ends.append(([row["gradient_norm"] for row in trained], weights))
    assert len(ends[0][0]) == 8
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-3)
    for name, weight in ends[0][1].items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):  # of its own process's words
            torch.testing.assert_close(weight, ends[1][1][name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_mistake_that_only_the_first_process_meets_ends_both(config: Path) -> None:
    # The folder can't be created in a file: the first process finds out when it tries, while the second waits for it.
    done = torchrun(str(ROOT / "tools" / "distill.py"), "--config", str(config), f"out={config}/run")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [f"error: {config}/run can't be created (Not a directory); give another out=FOLDER"]
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
    assert [row["group"] for row in logged] == ["train", "gradient_share", "train", "validation"]
    assert all(value == value for row in logged for value in row.values()), "nothing is NaN"


def test_a_precision_that_can_not_be_had_is_the_users_mistake(
    config: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("fp16 mixed precision requires a GPU (not 'cpu').")

    monkeypatch.setattr("distill.training.accelerator.Accelerator", refuse)
    assert main(["--config", str(config), "train.precision=fp16"]) == 2
    assert "train.precision=fp16 can't be had here" in capfd.readouterr().err
    assert not (config.parent / "run").exists()
