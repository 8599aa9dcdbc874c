"""Killed at once and resumed, a run ends as an unbroken one: words rendered live, in the middle of a step, several."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.commands.distill import main
from distill.locks import acquire_lock
from tests.runs import rows, same_end, trained_steps

ROOT = Path(__file__).resolve().parents[3]
STEPS = 6
LIVE = [
    f"train.steps={STEPS}", "train.grad_accum=3", "train.batch_size=3", "train.checkpoint_every=2",
    "train.validate_every=3", "data.train=[]", "data.synthetic.words=26", "data.synthetic.live=true",
    "data.synthetic.augmentation=light", "data.workers=1", "guidance.interval=2", "student.dropout=0.2", "train.keep=1",
]  # fmt: skip
"""6 steps of three batches of 3 words, each word rendered when it is asked for: an epoch ends within a step."""

KILLED = """
import os, signal, sys
from distill.commands.distill import main
from distill.training.distillation import DistillationTask

prepare = DistillationTask.prepare

def prepare_or_die(self, batch, step, progress, part):
    if 3 * step + part == {batch} and os.environ.get("RANK", "0") == "{rank}":
        os.kill(os.getpid(), signal.SIGKILL)
    return prepare(self, batch, step, progress, part)

DistillationTask.prepare = prepare_or_die
sys.exit(main(sys.argv[1:]))
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)


def test_words_rendered_live_and_accumulated_go_on_from_within_a_step(
    write_config: Callable[[Path], Path], tmp_path: Path
) -> None:
    (tmp_path / "unbroken").mkdir()
    (tmp_path / "killed").mkdir()
    assert main(["--config", str(write_config(tmp_path / "unbroken")), *LIVE]) == 0
    arguments = ["--config", str(write_config(tmp_path / "killed")), *LIVE]
    killed = run([sys.executable, "-c", KILLED.format(batch=13, rank=0), *arguments])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tmp_path / "killed" / "run"
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000004"], "twelve batches"
    assert main([*arguments, "--resume", "auto"]) == 0
    assert trained_steps(folder) == list(range(1, STEPS + 1))
    same_end(tmp_path / "unbroken" / "run", folder)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_go_on_when_one_was_killed(
    rank: int, write_config: Callable[[Path], Path], tmp_path: Path
) -> None:
    (tmp_path / "unbroken").mkdir()
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed.py").write_text(KILLED.format(batch=random.randrange(7, 17), rank=rank), encoding="utf-8")
    tool = str(ROOT / "tools" / "distill.py")
    whole = run([*TORCHRUN, tool, "--config", str(write_config(tmp_path / "unbroken")), *LIVE])
    assert whole.returncode == 0, whole.stderr
    arguments = ["--config", str(write_config(tmp_path / "killed")), *LIVE]
    killed = run([*TORCHRUN, str(tmp_path / "killed.py"), *arguments])
    assert killed.returncode != 0
    assert f"exitcode  : -{signal.SIGKILL.value}" in killed.stderr
    folder = tmp_path / "killed" / "run"
    assert not (folder / "report.json").exists()
    resumed = run([*TORCHRUN, tool, *arguments, "--resume", "auto"])
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed" in resumed.stdout
    assert trained_steps(folder) == list(range(1, STEPS + 1))
    same_end(tmp_path / "unbroken" / "run", folder)


@pytest.mark.slow
def test_a_baseline_ends_with_its_run_and_goes_on_with_it(config: Path) -> None:
    steps = 200
    arguments = [
        "--config", str(config), "eval.baseline=true", f"train.steps={steps}", "train.checkpoint_every=5",
        "train.keep=1",
    ]  # fmt: skip
    folder = config.parent / "run"
    baseline = folder / "baseline"
    student = subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "distill.py"), *arguments], env=ENVIRONMENT, stdout=subprocess.DEVNULL
    )
    while not list((baseline / "checkpoints").glob("step-????????")):
        assert student.poll() is None
        time.sleep(0.02)
    student.kill()
    student.wait()
    held = acquire_lock(baseline / ".lock", 30)
    assert held is not None, "the baseline is still at work"
    held.close()
    before = len(rows(baseline))
    assert before < steps, "it went on to its end"

    assert main([*arguments, "--resume", "auto"]) == 0
    output = (baseline / "console.txt").read_text(encoding="utf-8")
    assert output.count("world size 1") == 2
    resumed = next(line for line in output.splitlines() if line.startswith("resumed"))
    assert int(resumed.rpartition(" ")[2]) > 0, "it went on from its own checkpoint"
    assert trained_steps(baseline) == list(range(1, steps + 1))
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [reader["role"] for reader in report["readers"]] == ["student", "baseline"]
