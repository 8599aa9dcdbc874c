"""Whole runs of seconds: resumed is unbroken, a stop saves, two processes count right, a rehearsal leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill.commands.distill import main
from distill.training.stopping import STOPPED
from distill.training.tracking import Tracker
from students.student import Student

ROOT = Path(__file__).resolve().parents[3]
LONG = [
    "train.steps=12", "train.validate_every=5", "train.checkpoint_every=4", "guidance.every=2", "data.workers=1",
    "data.train[0].augmentation=strong", "student.dropout=0.2", "optim.ema=0.9",
]  # fmt: skip
"""12 steps of 6 words out of 26: an epoch ends within a batch, checkpoints lie within epochs."""

KILLED = """
import os, signal, sys
from distill.commands.distill import main
from distill.training.tracking import Tracker
log = Tracker.log

def log_and_die(self, step, group, values):
    log(self, step, group, values)
    if step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

Tracker.log = log_and_die
sys.exit(main(sys.argv[1:]))
"""


def rows(run: Path) -> list[dict[str, Any]]:
    """All that was logged but the clock."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def tree(*folders: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def unbroken(write_config: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert main(["--config", str(write_config(folder)), *LONG]) == 0
    return folder / "run"


def same_end(one: Path, other: Path) -> None:
    """Two runs logged the same numbers and delivered the same weights."""
    assert rows(one) == rows(other)
    weights = [load_file(run / "student" / "model.safetensors") for run in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    states = [load_file(run / "checkpoints" / "step-00000012" / "model.safetensors") for run in (one, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_leaves_what_is_promised(unbroken: Path) -> None:
    assert {"config.yaml", "checkpoints", "student", "tensorboard", "metrics.jsonl", "report.json", "log.txt"} <= {
        path.name for path in unbroken.iterdir()
    }
    assert [path.name for path in sorted((unbroken / "checkpoints").iterdir())] == ["step-00000008", "step-00000012"]
    logged = rows(unbroken)
    assert [row["step"] for row in logged if row["group"] == "train"] == list(range(1, 13))
    assert [(row["step"], row["words"]) for row in logged if row["group"] == "validation"] == [(5, 7), (10, 7), (12, 7)]
    first = logged[0]
    terms = sum(
        value
        for name, value in first.items()
        if name[-1] in "123" or name in ("characters", "ctc", "columns", "bridge")
    )
    assert first["loss"] == pytest.approx(terms, rel=1e-5)
    assert {"gradient_norm", "learning_rate"} <= set(first)
    assert ["bridge" in row for row in logged if row["group"] == "train"] == [True, False] * 6


def test_killed_and_resumed_is_unbroken(unbroken: Path, config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(config), *LONG]
    command = [sys.executable, "-c", KILLED.format(step=7), *arguments]
    killed = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    run = config.parent / "run"
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [row["step"] for row in rows(run) if row["group"] == "train"] == list(range(1, 8))
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000004"]
    assert not (run / "report.json").exists()

    assert main(arguments) == 2, "the folder exists"
    assert "--resume auto" in capfd.readouterr().err
    assert main([*arguments, "--resume", "auto"]) == 0
    assert "resumed" in capfd.readouterr().out
    same_end(unbroken, run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_saves_and_resumes(
    number: signal.Signals,
    unbroken: Path,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run, log = config.parent / "run", Tracker.log

    def log_and_tell(self: Tracker, step: int, group: str, values: dict[str, float]) -> None:
        log(self, step, group, values)
        if step == 6:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "log", log_and_tell)
        assert main(["--config", str(config), *LONG]) == STOPPED
    assert signal.getsignal(number) is before
    assert "stopped at step 6 and saved; continue with --resume auto" in capfd.readouterr().out
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step-00000004", "step-00000006"]
    assert not (run / "report.json").exists()
    assert main(["--config", str(config), *LONG, "--resume", str(run / "checkpoints" / "step-00000006")]) == 0
    same_end(unbroken, run)


def test_accumulated_steps_resume_too(config: Path, tmp_path: Path) -> None:
    arguments = [
        "--config",
        str(config),
        "train.accumulation=3",
        "optim.ema=0",
        "optim.schedule=cosine",
        "data.workers=0",
    ]
    assert main([*arguments, f"out={tmp_path / 'whole'}"]) == 0
    assert main([*arguments, "train.checkpoint_every=2"]) == 0
    run = config.parent / "run"
    for written in ("report.json", "checkpoints/step-00000004/complete.json"):
        (run / written).unlink()
    assert main([*arguments, "--resume", "auto"]) == 0
    assert rows(run) == rows(tmp_path / "whole")
    assert len(rows(run)) == 5


def test_a_finished_run_resumes_to_its_report(config: Path) -> None:
    assert main(["--config", str(config)]) == 0
    run = config.parent / "run"
    logged = rows(run)
    (run / "report.json").unlink()
    assert main(["--config", str(config), "--resume", "auto"]) == 0
    assert rows(run) == logged
    assert (run / "report.json").exists()


def test_a_rehearsal_shows_the_first_step_and_leaves_nothing(
    material: Path, config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(material, tmp_path)
    overrides = ["data.rendered.cache=memory", "data.train[0].cache=memory", "student.charset=36"]
    assert main(["--config", str(config), "--dry-run", *overrides]) == 0
    shown, errors = capfd.readouterr()
    assert errors == ""
    assert shown.startswith("world size 1: ")
    for part in (
        "linguistic1",
        "visual3",
        "bridge",
        "text tap 3",
        "6x33x32",
        "64 of 198",
        "weights, frozen",
        "in training only",
    ):
        assert part in shown, part
    shares = [line for line in shown.splitlines() if "gradient share" in line]
    assert [line.split()[0] for line in shares][:3] == ["characters", "ctc", "columns"]
    assert len(shares) == 10
    assert sum(float(line.split()[-1].rstrip("%")) for line in shares) == pytest.approx(100, abs=0.6)
    assert tree(material, tmp_path) == before


def test_a_rehearsal_renders_a_few_words_and_keeps_none(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(tmp_path)
    overrides = [
        "data.train=[]",
        "data.validation=null",
        "data.render.words=100000",
        f"data.render.folder={tmp_path / 'kept'}",
    ]
    assert main(["--config", str(config), "--dry-run", "teacher.name=null", *overrides]) == 0
    shown = capfd.readouterr().out
    assert "64 words" in shown
    assert "characters" in shown
    assert "linguistic1" not in shown, "a twin is not guided"
    assert tree(tmp_path) == before


def test_two_processes_count_right(config: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        str(ROOT / "tools" / "distill.py"), "--config", str(config), "train.steps=3", "train.validate_every=2",
        "optim.scale_lr=true", "optim.schedule=cosine", "optim.warmup=0", "guidance.every=2",
    ]  # fmt: skip
    done = subprocess.run(
        command, env=environment(ACCELERATE_USE_CPU="true"), capture_output=True, text=True, timeout=300
    )
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
