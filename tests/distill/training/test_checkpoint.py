"""Checkpoints: complete or not there, only the latest stay, damaged ones refused in one line; and their folder."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from distill.config import save_config
from distill.data.sections import DataSection, SourceSection
from distill.schema import Config, TeacherConfig
from distill.training import run_folder
from distill.training.checkpoint import (
    CheckpointKeeper,
    check_alphabet,
    describe_differences,
    is_complete,
    load_checkpoint,
)
from distill.training.run_folder import LOCK, WRITTEN, check_run_folder, open_run_folder
from distill.training.sections import StudentSection, TeacherSection
from distill.training.trainer import TrainState
from students import files
from students.errors import UserError

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


class Run:
    """The least that Accelerate saves: a model, an optimizer, a state."""

    def __init__(self, folder: Path, keep: int = 2, width: int = 3) -> None:
        self.accelerator = Accelerator(cpu=True)
        model = nn.Linear(width, 2)
        self.model, self.optimizer = self.accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
        self.state = TrainState()
        self.accelerator.register_for_checkpointing(self.state)
        self.keeper = CheckpointKeeper(folder / "checkpoints", keep)

    def save(self, step: int) -> Path:
        self.state.step = step
        return self.keeper.save(self.accelerator, step, "abc")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_the_latest_are_kept_and_found(run: Run) -> None:
    for step in (5, 10, 100):
        path = run.save(step)
        assert is_complete(path)
        assert path == run.keeper.find("auto")
    assert [path.name for path in run.keeper.all()] == ["step-00000010", "step-00000100"]
    assert sorted(path.name for path in run.keeper.folder.iterdir()) == ["step-00000010", "step-00000100"]


def test_what_is_saved_comes_back(run: Run, tmp_path: Path) -> None:
    run.model(torch.randn(4, 3)).sum().backward()
    run.optimizer.step()
    run.state.best_accuracy = 12.5
    saved = run.save(7)
    drawn = torch.rand(3)
    other = Run(tmp_path)
    load_checkpoint(other.accelerator, saved)
    assert other.state == run.state
    torch.testing.assert_close(other.model.state_dict(), run.model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(other.optimizer.state_dict(), run.optimizer.state_dict(), rtol=0, atol=0)
    assert torch.equal(torch.rand(3), drawn), "random numbers go on where they were"


def test_saving_again_replaces(run: Run) -> None:
    run.save(5)
    run.state.best_step = 4
    saved = run.save(5)
    run.state.best_step = 0
    load_checkpoint(run.accelerator, saved)
    assert run.state.best_step == 4
    assert len(list(run.keeper.folder.iterdir())) == 1


def test_a_partial_checkpoint_is_never_chosen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    run.save(5)
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", killed)  # all is written, but it has not got its name
        with pytest.raises(KeyboardInterrupt):
            run.save(10)
    with monkeypatch.context() as patch:
        patch.setattr(run.accelerator, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            run.save(11)
    assert len(list(run.keeper.folder.glob("*.partial"))) == 1, "the other was removed by the next to save"
    (run.keeper.folder / "step-00000020").mkdir()
    (run.keeper.folder / "step-00000030").write_text("")
    latest = run.keeper.find("auto")
    assert latest is not None
    assert latest.name == "step-00000005"
    run.save(12)
    assert [path.name for path in run.keeper.all()] == ["step-00000005", "step-00000012"]
    assert not list(run.keeper.folder.glob("*.partial"))


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file can become larger than this: what writes it fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 100, 1000])
def test_a_full_disk_leaves_what_is_there(run: Run, size: int, tmp_path: Path) -> None:
    run.model(torch.randn(4, 3)).sum().backward()
    run.optimizer.step()
    saved = run.save(5)
    with room(size), pytest.raises(Exception) as stopped:
        run.save(10)
    assert files.is_full(stopped.value), stopped.value
    assert [path.name for path in run.keeper.folder.iterdir()] == [saved.name]
    assert run.keeper.find("auto") == saved
    other = Run(tmp_path)
    load_checkpoint(other.accelerator, saved)
    torch.testing.assert_close(other.model.state_dict(), run.model.state_dict(), rtol=0, atol=0)
    run.save(10)
    assert [path.name for path in run.keeper.all()] == ["step-00000005", "step-00000010"]


def test_auto_finds_nothing_before_the_first(run: Run) -> None:
    assert run.keeper.find("auto") is None


def test_what_is_no_checkpoint_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    half = run.save(5)
    (half / "complete.json").unlink()
    for folder in (tmp_path / "empty", tmp_path / "file", tmp_path / "missing", half):
        with pytest.raises(UserError, match="is no checkpoint; give a folder"):
            run.keeper.find(str(folder))


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.bin", "custom_checkpoint_0.pkl"])
@pytest.mark.parametrize("damage", ["cut", "garbage", "missing"])
def test_a_damaged_checkpoint_is_refused(run: Run, file: str, damage: str) -> None:
    saved = run.save(5)
    path = saved / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"garbage" * 100)
    with pytest.raises(UserError, match="does not fit this run") as refused:
        load_checkpoint(run.accelerator, saved)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_other_sizes_is_refused(run: Run, tmp_path: Path) -> None:
    saved = run.save(5)
    with pytest.raises(UserError, match="configuration it was made with"):
        load_checkpoint(Run(tmp_path, width=4).accelerator, saved)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A run's folder with something of the user's in it."""
    out = tmp_path / "run"
    (out / "checkpoints" / "step-00000005").mkdir(parents=True)
    (out / "student").mkdir()
    for name in ("config.yaml", "metrics.jsonl", "notes.txt"):
        (out / name).write_text("x", encoding="utf-8")
    return out


def test_an_earlier_run_is_refused_unless_told(earlier: Path) -> None:
    with pytest.raises(UserError, match=r"--resume auto.*--overwrite.*out=FOLDER"):
        check_run_folder(Config(out=str(earlier)), None, overwrite=False)
    check_run_folder(Config(out=str(earlier)), "auto", overwrite=False)
    check_run_folder(Config(out=str(earlier)), None, overwrite=True)
    with pytest.raises(UserError, match="one of them"):
        check_run_folder(Config(out=str(earlier)), "auto", overwrite=True)


def test_other_places_that_are_refused(earlier: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a file"):
        check_run_folder(Config(out=str(earlier / "notes.txt")), None, overwrite=True)
    (earlier / "config.yaml").unlink()
    with pytest.raises(UserError, match="other things than a run"):
        check_run_folder(Config(out=str(earlier)), None, overwrite=True)
    with pytest.raises(UserError, match="other things than a run"):
        check_run_folder(Config(out=str(earlier)), "auto", overwrite=False)
    with pytest.raises(UserError, match="no checkpoint"):
        check_run_folder(Config(out=str(earlier)), str(tmp_path / "nothing"), overwrite=False)
    with pytest.raises(UserError, match="can't be created"):
        open_run_folder(earlier / "notes.txt" / "run", overwrite=False, resume=None)


def test_what_belongs_to_somebody_else_is_named(earlier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (earlier / "tensorboard").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: path != earlier / "tensorboard")
    with pytest.raises(UserError, match="tensorboard can't be written to; allow it"):
        open_run_folder(earlier, overwrite=False, resume="auto")
    monkeypatch.undo()
    open_run_folder(earlier, overwrite=False, resume="auto").close()


def test_a_checkpoint_of_another_run_is_not_mixed_into_a_run(earlier: Path, tmp_path: Path) -> None:
    for run in (earlier, tmp_path / "other"):
        (run / "checkpoints" / "step-00000007").mkdir(parents=True)
        for name in ("complete.json", "model.safetensors"):
            (run / "checkpoints" / "step-00000007" / name).write_text("{}")
    check_run_folder(Config(out=str(earlier)), str(earlier / "checkpoints" / "step-00000007"), overwrite=False)
    check_run_folder(Config(out=str(tmp_path / "new")), str(earlier / "checkpoints" / "step-00000007"), overwrite=False)
    with pytest.raises(UserError, match=r"holds another run than .*step-00000007 is of"):
        check_run_folder(
            Config(out=str(earlier)), str(tmp_path / "other" / "checkpoints" / "step-00000007"), overwrite=False
        )


def test_a_checkpoint_that_was_cut_off_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "complete.json").touch()
    with pytest.raises(UserError, match=r"is damaged \(complete\.json"):
        check_alphabet(tmp_path, "abc")


def test_new_and_empty_places_are_taken(tmp_path: Path) -> None:
    check_run_folder(Config(out=str(tmp_path)), None, overwrite=False)
    check_run_folder(Config(out=str(tmp_path / "new")), None, overwrite=False)
    assert list(tmp_path.iterdir()) == []
    open_run_folder(tmp_path / "a" / "b", overwrite=False, resume=None).close()
    assert (tmp_path / "a" / "b").is_dir()


def test_overwriting_removes_what_a_run_wrote_and_nothing_else(earlier: Path) -> None:
    open_run_folder(earlier, overwrite=False, resume="auto").close()
    assert (earlier / "metrics.jsonl").exists()
    open_run_folder(earlier, overwrite=True, resume=None).close()
    assert sorted(path.name for path in earlier.iterdir()) == [LOCK, "notes.txt"]
    assert not {"notes.txt", "data"} & set(WRITTEN)


def test_what_a_killed_run_moved_aside_comes_back(earlier: Path) -> None:
    (earlier / "student").rename(earlier / ".student.77.replaced")
    (earlier / ".student.77.partial").mkdir()
    (earlier / "checkpoints" / ".step-00000005.77.replaced").mkdir()
    open_run_folder(earlier, overwrite=False, resume="auto").close()
    assert (earlier / "student").is_dir()
    left = [path.name for folder in (earlier, earlier / "checkpoints") for path in folder.glob(".*")]
    assert left == [LOCK], "and the old one of a checkpoint that was written again is gone"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_in_which_a_run_is_at_work_is_refused(
    overwrite: bool, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "acquire_lock", lambda file, patience: None)
    with pytest.raises(UserError, match=r"another run is at work in .*; wait for its end, stop it, or give another"):
        open_run_folder(earlier, overwrite, None if overwrite else "auto")
    assert {"config.yaml", "metrics.jsonl", "student"} <= {path.name for path in earlier.iterdir()}


def test_what_a_run_needs_is_not_removed_by_itself(earlier: Path, tmp_path: Path) -> None:
    own = str(earlier / "student")
    for config in (
        Config(student=StudentSection(init=own)), Config(teacher=TeacherSection(name=own)), TeacherConfig(init=own),
        Config(data=DataSection(root=str(earlier), train=[SourceSection("student")])),
    ):  # fmt: skip
        config.out = str(earlier)
        with pytest.raises(UserError, match="student lies in the run that --overwrite replaces"):
            check_run_folder(config, None, overwrite=True)
        config.out = str(tmp_path / "other")
        check_run_folder(config, None, overwrite=True)


def test_a_run_of_the_other_command_is_not_continued(earlier: Path) -> None:
    for stored, other in ((Config(), TeacherConfig()), (TeacherConfig(), Config())):
        save_config(stored, earlier / "config.yaml")
        stored.out = other.out = str(earlier)
        check_run_folder(stored, "auto", overwrite=False)
        with pytest.raises(UserError, match="a run of another command"):
            check_run_folder(other, "auto", overwrite=False)


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ({}, []), ({"processes": 2, "words": "a (5 words)"}, []), ({"processes": 1}, ["2 processes instead of 1"]),
        ({"words": "a (4 words)"}, ["the words to learn from have changed: a (4 words) -> a (5 words)"]),
    ],
)  # fmt: skip
def test_what_a_resumed_run_has_otherwise_is_said(stored: dict[str, Any], told: list[str], tmp_path: Path) -> None:
    (tmp_path / "complete.json").write_text(json.dumps({"step": 3, **stored}))
    lines = describe_differences(tmp_path, 2, "a (5 words)")
    assert [line.startswith(one) for line, one in zip(lines, told, strict=True)] == [True] * len(told)
