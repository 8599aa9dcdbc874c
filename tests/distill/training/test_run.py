"""Whole runs of seconds: killed and resumed is unbroken, and a stop saves."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from distill.commands.distill import main
from distill.config import load_config
from distill.deployment.card import Card, read_sections
from distill.deployment.folder import save_folder
from distill.schema import Config
from distill.training.distill_run import DistillRun, distill
from distill.training.progress import Tracker
from distill.training.run import TrainingRun
from distill.training.stopping import STOPPED, StopRequest
from losses.registry import LOSSES
from teachers.registry import load_reader
from tests.runs import rows, same_end

ROOT = Path(__file__).resolve().parents[3]
LONG = [
    "train.steps=12", "train.validate_every=5", "train.checkpoint_every=4", "guidance.interval=2", "data.workers=1",
    "data.train[0].augmentation=strong", "student.dropout=0.2", "optim.ema=0.9",
]  # fmt: skip
"""12 steps of 6 words out of 26: an epoch ends within a batch, checkpoints lie within epochs."""

KILLED = """
import os, signal, sys
from distill.commands.distill import main
from distill.training.progress import Tracker
log = Tracker.log

def log_and_die(self, step, group, values):
    log(self, step, group, values)
    if step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)

Tracker.log = log_and_die
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def unbroken(write_config: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert main(["--config", str(write_config(folder)), *LONG]) == 0
    return folder / "run"


def test_a_run_leaves_what_is_promised(unbroken: Path) -> None:
    assert {"config.yaml", "checkpoints", "student", "tensorboard", "metrics.jsonl", "report.json", "log.txt"} <= {
        path.name for path in unbroken.iterdir()
    }
    assert {"report.html", "readings.jsonl"} <= {path.name for path in unbroken.iterdir()}
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
    shares = [row for row in logged if row["group"] == "gradient_share"]
    assert [row["step"] for row in shares] == [1, 5, 9], "in guided steps, about as often as words are validated"
    terms_of = [{name for name in row if name not in ("step", "group")} for row in shares]
    assert terms_of[0] == {name for name in first if name[-1] in "123"} | {"characters", "ctc", "columns", "bridge"}
    assert terms_of[2] == terms_of[0] - {"columns"}, "which have faded out"
    for row, names in zip(shares, terms_of, strict=True):
        assert sum(row[name] for name in names) == pytest.approx(1)


def test_killed_and_resumed_is_unbroken(unbroken: Path, config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(config), *LONG]
    command = [sys.executable, "-c", KILLED.format(step=7), *arguments]
    killed = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
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

    (run / "report.json").unlink()
    assert main([*arguments, "--resume", "auto"]) == 0, "a finished run is taken up too"
    assert (run / "report.json").exists()
    same_end(unbroken, run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_asked_to_stop_saves_and_resumes(
    number: signal.Signals, unbroken: Path, config: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, log = config.parent / "run", Tracker.log

    def log_and_tell(self: Tracker, step: int, group: str, values: dict[str, float]) -> None:
        log(self, step, group, values)
        if step == 6:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "log", log_and_tell)
        assert main(["--config", str(config), *LONG]) == STOPPED
    assert "stopped at step 6 and saved; continue with --resume auto" in capfd.readouterr().out
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step-00000004", "step-00000006"]
    assert not (run / "report.json").exists()
    assert main(["--config", str(config), *LONG, "--resume", str(run / "checkpoints" / "step-00000006")]) == 0
    same_end(unbroken, run)


def test_a_full_disk_stops_the_run_and_nothing_is_lost(
    unbroken: Path, config: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run, save_state = config.parent / "run", Accelerator.save_state

    def save_or_fail(self: Accelerator, folder: str) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if "step-00000008" in folder:  # weights still have room, the optimizer's state has not
            weights = run / "checkpoints" / "step-00000004" / "model.safetensors"
            resource.setrlimit(resource.RLIMIT_FSIZE, (weights.stat().st_size + 1000, before[1]))
        try:
            save_state(self, folder)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with monkeypatch.context() as patch:
        patch.setattr(Accelerator, "save_state", save_or_fail)
        assert main(["--config", str(config), *LONG]) == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: no room left on the disk (")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000004"]
    assert main(["--config", str(config), *LONG, "--resume", "auto"]) == 0
    same_end(unbroken, run)


def test_another_runs_checkpoint_is_gone_on_from(unbroken: Path, config: Path) -> None:
    start = unbroken / "checkpoints" / "step-00000008"
    assert main(["--config", str(config), *LONG, "--resume", str(start)]) == 0
    run = config.parent / "run"
    assert rows(run) == [row for row in rows(unbroken) if row["step"] > 8]
    assert (run / "student" / "model.safetensors").is_file(), "although the best was before"


@pytest.mark.usefixtures("fresh_accelerator")
def test_a_second_interrupt_stops_at_once() -> None:
    accelerator = Accelerator(cpu=True)
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert not stop.requested(accelerator)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested(accelerator)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_has_changed_is_listed_and_counts(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(config), "train.checkpoint_every=2", "optim.schedule=cosine", "optim.warmup=0"]
    assert main([*arguments, "train.steps=2"]) == 0
    capfd.readouterr()
    assert main([*arguments, "train.steps=4", "optim.lr=5e-4", "train.batch_size=5", "--resume", "auto"]) == 0
    out = capfd.readouterr().out
    assert "changed since then: optim.lr 0.001 -> 0.0005, train.steps 2 -> 4, train.batch_size 6 -> 5" in out
    rates = [row["learning_rate"] for row in rows(config.parent / "run") if row["group"] == "train"]
    assert rates == pytest.approx([1e-3, 5e-4, 2.5e-4, 5e-4 * (2 - 2**0.5) / 4]), "of the new peak and the new length"
    assert main([*arguments, "train.steps=4", "optim.lr=5e-4", "train.batch_size=5", "--resume", "auto"]) == 0
    assert "changed since then" not in capfd.readouterr().out


def test_paths_that_look_like_markup_are_printed_as_they_are(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(config), "train.checkpoint_every=2"]
    assert main([*arguments, "train.steps=2"]) == 0
    fonts = "data.synthetic.fonts=[/usr/share/fonts]"
    assert main([*arguments, "train.steps=4", fonts, "data.synthetic.languages=[de]", "--resume", "auto"]) == 0
    out = capfd.readouterr().out
    assert "data.synthetic.fonts [] -> [/usr/share/fonts]" in out
    assert "data.synthetic.languages [] -> [de]" in out


def test_all_that_is_learned_from_is_searched_for_test_words(config: Path, material: Path) -> None:
    sources = f"data.train=[{{path: {material}/train}}, {{path: {material}/validation}}]"
    root = f"eval.train_root={material}/train"
    assert main(["--config", str(config), "train.steps=1", sources, root]) == 0
    overlaps = json.loads((config.parent / "run" / "report.json").read_text())["overlaps"]
    assert overlaps["against"] == f"{material}/train, {material}/validation"
    assert overlaps["words"] == 7, "the validation words"


def test_another_way_from_an_earlier_checkpoint(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", str(config), "train.checkpoint_every=2", "train.validate_every=2", "train.steps=6"]
    assert main(arguments) == 0
    run = config.parent / "run"
    student = (run / "student" / "model.safetensors").read_bytes()
    earlier = ["--resume", str(run / "checkpoints" / "step-00000004"), "optim.lr=1e-4"]
    assert main([*arguments, *earlier]) == 0
    assert "checkpoints of later steps are set aside: step-00000006.set-aside" in capfd.readouterr().out
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["step-00000004", "step-00000006", "step-00000006.set-aside"]
    weights = [(run / "checkpoints" / name / "model.safetensors").read_bytes() for name in names[1:]]
    assert weights[0] != weights[1]
    assert (run / "student" / "model.safetensors").read_bytes() != student, "the best of the way that was taken"


def test_other_words_to_validate_on_have_another_best(
    config: Path, material: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(config), "train.checkpoint_every=2", "train.validate_every=2"]
    assert main([*arguments, "train.steps=2"]) == 0
    changed = ["train.steps=4", f"data.validation={material / 'train'}", "--resume", "auto"]
    assert main([*arguments, *changed]) == 0
    assert "the words to validate on have changed: the best weights are chosen anew" in capfd.readouterr().out
    assert "Step 4 of 4" in (config.parent / "run" / "student" / "README.md").read_text()


def test_labels_that_were_mended_in_their_place_have_another_best(
    config: Path, make_words: Callable[[Path, list[str]], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    words = make_words(config.parent / "mine", ["shop", "bus", "stop"])
    arguments = ["--config", str(config), f"data.validation={words}", "train.validate_every=2"]
    arguments += ["train.checkpoint_every=2"]
    assert main([*arguments, "train.steps=2"]) == 0
    assert main([*arguments, "train.steps=4", "--resume", "auto"]) == 0
    assert "the words to validate on have changed" not in capfd.readouterr().out
    shutil.rmtree(words)
    make_words(words, ["shop", "bus", "step"])
    assert main([*arguments, "train.steps=6", "--resume", "auto"]) == 0
    assert "the words to validate on have changed: the best weights are chosen anew" in capfd.readouterr().out


def test_teachers_guide_every_few_steps_not_batches(config: Path) -> None:
    arguments = ["guidance.interval=2", "train.grad_accum=3", "train.batch_size=2", "train.steps=5"]
    assert main(["--config", str(config), *arguments]) == 0
    logged = [row for row in rows(config.parent / "run") if row["group"] == "train"]
    assert ["bridge" in row for row in logged] == [True, False, True, False, True]


def test_rows_are_means_over_the_steps_since_the_last(config: Path, tmp_path: Path) -> None:
    arguments = ["--config", str(config), "guidance.interval=2", "train.steps=6", "train.checkpoint_every=3"]
    assert main([*arguments, f"out={tmp_path / 'each'}"]) == 0
    assert main([*arguments, "train.log_every=2"]) == 0
    each, pairs = (
        [row for row in rows(run) if row["group"] == "train"] for run in (tmp_path / "each", tmp_path / "run")
    )
    assert [row["step"] for row in pairs] == [2, 4, 6]
    assert [row["loss"] for row in pairs] == pytest.approx(
        [(first["loss"] + second["loss"]) / 2 for first, second in zip(each[::2], each[1::2], strict=True)]
    )
    assert [row["bridge"] for row in pairs] == [row["bridge"] for row in each[::2]], "over the guided steps alone"
    checkpoint = str(tmp_path / "run" / "checkpoints" / "step-00000003")
    assert main([*arguments, "train.log_every=2", "--resume", checkpoint]) == 0
    assert [row for row in rows(tmp_path / "run") if row["group"] == "train"] == pairs, "a resumed run has the same"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["guidance.bridge=0", "guidance.visual=0", "guidance.linguistic=0"], "no loss that it has the parts for"),
        (["teacher.weight=0"], "guides nothing, its weight is 0"),
        (["teacher.name=null", "guidance.kd=1"], "guidance.kd needs a teacher, and there is none: left out"),
    ],
)
def test_a_teacher_that_teaches_nothing_is_said(
    changes: list[str], line: str, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(config), "train.steps=1", *changes]) == 0
    assert line in capfd.readouterr().out
    assert read_sections(config.parent / "run" / "student")["Training"].endswith("Trained without a teacher.")


@pytest.mark.parametrize("resumable", [False, True])
def test_a_loss_that_is_not_finite_is_one_line(
    resumable: bool, config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    every = "train.checkpoint_every=1" if resumable else "train.checkpoint_every=50"
    arguments = ["--config", str(config), "train.steps=50", "optim.grad_clip=0", "optim.lr=1e30", every]
    assert main(arguments) == 2
    errors = capfd.readouterr().err
    assert errors.count("\n") == 1
    assert "is not finite at step" in errors
    assert "Lower optim.lr" in errors
    assert any((config.parent / "run").glob("checkpoints/step-*")) == resumable, "earlier ones stay, none is added"


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulated_steps_resume_too(optimizer: str, config: Path) -> None:
    arguments = ["--config", str(config), "train.grad_accum=3", "train.batch_size=3", "train.checkpoint_every=2"]
    arguments += ["optim.ema=0", "optim.schedule=cosine", "data.workers=0", f"optim.name={optimizer}"]
    assert main(arguments) == 0
    run = config.parent / "run"
    logged = rows(run)
    assert sum(row["group"] != "gradient_share" for row in logged) == 5
    (run / "checkpoints" / "step-00000004" / "complete.json").unlink()
    assert main([*arguments, "--resume", "auto"]) == 0
    assert rows(run) == logged


def test_a_student_inherits_the_terms_of_the_one_it_started_from(config: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    save_folder(load_reader("tiny-free"), start, Card("start", terms="For research alone."))
    given = {
        "student": {"init": str(start), "decoding": "ctc", "decoder": False}, "teacher": {"name": None},
        "train.steps": 1, "eval.teacher": False, "out": str(tmp_path / "own"),
    }  # fmt: skip
    result = distill(load_config(Config, config, given))
    sections = read_sections(result.folder / "student")
    assert sections["Terms"] == "Of `start`: For research alone."
    assert sections["Training"].endswith("Started from `start`.")


def test_a_run_that_is_resumed_with_no_step_left_exports_what_it_has(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run, more = config.parent / "run", ["train.steps=4", "train.checkpoint_every=2"]
    assert main(["--config", str(config), *more]) == 0
    checkpoint = str(run / "checkpoints" / "step-00000002")
    assert main(["--config", str(config), "train.steps=2", "--resume", checkpoint]) == 0
    assert "Step 2 of 2" in (run / "student" / "README.md").read_text(encoding="utf-8")
    stored = torch.load(run / "checkpoints" / "step-00000002" / "custom_checkpoint_2.pkl", weights_only=True)
    exported = load_file(run / "student" / "model.safetensors")
    names = [name for name in exported if name.endswith("weight")]
    assert names
    assert [row["step"] for row in rows(run) if row["group"] == "validation"] == [2]
    assert "past train.steps" not in capfd.readouterr().out
    assert main(["--config", str(config), "train.steps=1", "--resume", checkpoint]) == 0
    assert "that is past train.steps=1: nothing is left to train" in capfd.readouterr().out
    assert all(torch.equal(exported[name], stored[f"module.{name}"]) for name in names)


def test_a_resumed_step_has_all_its_batches(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, after = [], TrainingRun._after_step

    def noted(self: Any, state: Any, report: Any) -> None:
        seen.append((state.step, report.words))
        after(self, state, report)

    monkeypatch.setattr(TrainingRun, "_after_step", noted)
    assert main(["--config", str(config), "train.steps=3"]) == 0
    resumed = ["train.steps=5", "train.batch_size=3", "train.grad_accum=2", "--resume", "auto"]
    assert main(["--config", str(config), *resumed]) == 0
    assert seen == [(step, 6) for step in range(1, 6)]


def test_asked_to_stop_while_it_compares_leaves_and_compares_when_resumed(
    config: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(DistillRun, "report", lambda self: os.kill(os.getpid(), signal.SIGTERM))
        assert main(["--config", str(config)]) == STOPPED
    assert signal.getsignal(signal.SIGTERM) is before
    assert "stopped at step 4 and saved; continue with --resume auto" in capfd.readouterr().out
    assert not (config.parent / "run" / "report.json").exists()
    assert main(["--config", str(config), "--resume", "auto"]) == 0
    assert (config.parent / "run" / "report.json").exists()


def test_a_loss_without_a_gradient_is_said(
    config: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("losses.registry.LOSSES", dict(LOSSES))
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from symdistill import register_loss\n\n\n"
        "@register_loss('cut', needs=())\n"
        "def cut(stages):\n    return stages.word.detach().square().mean()\n",
        encoding="utf-8",
    )
    given = [f"plugins=[{plugin}]", "losses.cut=1", "train.steps=1", "eval.baseline=false"]
    assert main(["--config", str(config), *given]) == 0
    assert "cut: no gradient in the first step; what a loss detaches teaches nothing" in capfd.readouterr().out
