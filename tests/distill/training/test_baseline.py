"""The baseline: trained alone, stopped with its run, and gone on with when the run is resumed."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distill.config import load_config, save_config
from distill.schema import Config
from distill.training import baseline as module
from distill.training.baseline import Baseline
from distill.training.sections import EvalSection, LossSection
from distill.training.stopping import STOPPED
from losses import registry

ROOT = Path(__file__).resolve().parents[3]

CHILD = """
import os, sys, time
from distill.training.stopping import StopRequest, stop_with_parent
with StopRequest() as stop:
    stop_with_parent(int(sys.argv[1]))
    print(os.getpid(), flush=True)
    while stop.signalled is None:
        time.sleep(0.01)
open(sys.argv[2], "w").write("saved")
"""

PARENT = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), sys.argv[2]])
time.sleep(60)
"""


class Started:
    """What `subprocess.Popen` was asked for, and a process that ends as a test wants."""

    def __init__(self, code: int | None = 0) -> None:
        self.code, self.returncode, self.terminated = code, None, 0

    def __call__(self, command: list[str], **options: Any) -> Started:
        self.command, self.options = command, options
        return self

    def poll(self) -> int | None:
        self.returncode = self.code
        return self.code

    def terminate(self) -> None:
        self.terminated += 1

    def wait(self) -> int:
        return STOPPED


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(name="mini", out=str(tmp_path / "run"), eval=EvalSection(baseline=True))


def test_one_that_was_trained_otherwise_is_not_finished(config: Config) -> None:
    baseline = Baseline(config, 1, 1e-3)
    baseline.folder.mkdir(parents=True)
    save_config(baseline.config, baseline.folder / "config.yaml")
    assert not baseline.finished
    (baseline.folder / "report.json").touch()
    assert baseline.finished
    longer = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=7))
    assert not Baseline(longer, 1, 1e-3).finished


def test_losses_that_need_no_teacher_are_the_baselines_too(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LOSSES", registry.LOSSES.copy())
    registry.register_loss("flat")(lambda stages: stages.logits.mean())
    registry.register_loss("gap", needs=("word",))(lambda stages, guidance: guidance.word.mean())
    config.losses = {"flat": LossSection(0.5), "gap": LossSection()}
    assert Baseline(config, 1, 1e-3).config.losses == {"flat": LossSection(0.5)}


def start(baseline: Baseline, monkeypatch: pytest.MonkeyPatch, code: int | None = 0) -> Started:
    started = Started(code)
    monkeypatch.setattr(module.subprocess, "Popen", started)
    baseline.start()
    return started


def test_it_is_none_of_the_launchers_processes(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = {
        "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1", "ROLE_RANK": "0", "ROLE_NAME": "default", "MASTER_ADDR": "localhost",
        "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "x", "TORCHELASTIC_USE_AGENT_STORE": "True",
    }  # fmt: skip
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    given = start(Baseline(config, 2, 0.01), monkeypatch).options["env"]
    assert not set(launched) & set(given), "it would wait for processes that never come"
    assert given["ACCELERATE_USE_CPU"] == "true"
    assert given["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize("processes", [1, 2])
def test_it_learns_from_as_many_words_at_the_same_rate(
    processes: int, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = start(Baseline(config, processes, 0.0125), monkeypatch).command
    baselines = load_config(Config, command[command.index("--config") + 1])
    assert baselines.train.batch_size == 32 * processes
    assert (baselines.optim.lr, baselines.optim.scale_lr) == ((1.4e-3, True) if processes == 1 else (0.0125, False))
    assert (baselines.teacher.name, baselines.eval.baseline, baselines.name) == (None, False, "mini-baseline")
    assert Path(baselines.out) == tmp_path / "run" / "baseline"
    assert command[command.index("--resume") + 1] == "auto"
    assert command[command.index("--parent") + 1] == str(os.getpid())


def test_its_end_is_waited_for(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = Baseline(config, 1, 0.01)
    assert baseline.wait(), "one that was trained before"
    started = start(baseline, monkeypatch, 0)
    assert baseline.wait()
    started.code = 1
    with pytest.raises(RuntimeError, match=r"code 1; see .*console\.txt"):
        baseline.wait()
    started.code = STOPPED
    assert not baseline.wait(), "told to stop together with its run"


def test_a_failure_is_seen_before_its_end_is_waited_for(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = Baseline(config, 1, 0.01)
    assert not baseline.failed, "not started"
    started = start(baseline, monkeypatch, None)
    for code, failed in ((None, False), (0, False), (STOPPED, False), (1, True), (-9, True)):
        started.code = code
        assert baseline.failed == failed


def test_a_run_that_is_told_to_stop_meanwhile_takes_it_along(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline = Baseline(config, 1, 0.01)
    started = start(baseline, monkeypatch, None)
    monkeypatch.setattr(module.time, "sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert not baseline.wait()
    assert started.terminated == 1


def test_a_process_stops_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    command = [sys.executable, "-c", PARENT, CHILD, str(saved)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    assert not saved.exists()
    parent.kill()
    parent.stdout.read()  # ends when both have ended: they share it
    assert saved.read_text() == "saved"
    parent.wait()
