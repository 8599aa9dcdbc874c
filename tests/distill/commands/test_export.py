"""`export`: a student folder and its ONNX file, compared on real pictures; a difference is exit 1."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.commands.export import main
from distill.deployment import folder as folders
from distill.deployment import onnx_export
from distill.deployment.card import Card, read_sections
from distill.deployment.folder import export, save_folder
from distill.deployment.parity import Difference, Parity
from students.errors import UserError
from students.parseq import Parseq, ParseqConfig
from students.student import Student
from teachers.clip4str import Clip4Str, Clip4StrConfig
from teachers.registry import load_reader
from teachers.small import SmallTeacherConfig


@pytest.fixture(scope="module")
def source(learned, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's student with a card, as training leaves it."""
    folder = tmp_path_factory.mktemp("run") / "ten-words" / "student"
    folder.parent.mkdir()
    save_folder(learned.student, folder, Card("mini", "Ten drawn words.", "Do as you like."))
    return folder


def test_exports_and_compares_on_given_pictures(
    learned, source: Path, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    # The same weights were exported for `onnx_file`; the exporter takes seconds.
    monkeypatch.setattr(onnx_export, "export_onnx", lambda student, path, name: shutil.copy(onnx_file, path))
    crops = tmp_path / "crops"
    crops.mkdir()
    for number, picture in enumerate(learned.pictures):
        picture.save(crops / f"{number}.png")
    out = tmp_path / "out"
    assert main(["--student", str(source), "--out", str(out), "--onnx", "--verify", str(crops)]) == 0
    assert sorted(file.name for file in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "student.onnx",
    ]
    printed = capsys.readouterr().out
    assert "10 words, batches of 1, 2, 3, 4, readings of 1 to 10 characters: no difference" in printed
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "# ten-words" in card, "a run's student is called as the run"
    assert "Ten drawn words." in card
    assert "Do as you like." in card
    assert "onnxruntime" in card


def test_what_is_written_reads_like_the_source(learned, source: Path, tmp_path: Path) -> None:
    assert main(["--student", str(source), "--out", str(tmp_path / "out"), "--name", "called", "--terms", "Mine."]) == 0
    student = Student.from_pretrained(tmp_path / "out")
    np.testing.assert_allclose(student(learned.images).detach(), learned.student(learned.images).detach(), atol=1e-6)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "# called" in card
    assert "## Terms\n\nMine." in card


def test_weights_of_the_start_are_mixed_in(learned, tmp_path: Path) -> None:
    scores = "| SVT | 647 | 500 | 77.28 |"
    save_folder(learned.student, tmp_path / "learned", Card("learned", "Ten drawn words.", "Mine.", scores))
    start = Student(learned.student.config)
    save_folder(start, tmp_path / "start", Card("start", "Nothing.", "Do as you like."))
    given = ["--student", str(tmp_path / "learned"), "--mix", str(tmp_path / "start"), "0.25"]
    assert main([*given, "--out", str(tmp_path / "out")]) == 0
    mixed, learnt = Student.from_pretrained(tmp_path / "out").head.weight, learned.student.head.weight
    torch.testing.assert_close(mixed, 0.75 * learnt + 0.25 * start.head.weight, atol=1e-6, rtol=0)
    sections = read_sections(tmp_path / "out")
    assert sections["Training"] == (
        "Ten drawn words.\n\nIts weights are 0.75 of those that it learned and 0.25 of those of `start`."
    )
    assert sections["Terms"] == "Mine.\n\nOf `start`: Do as you like."
    assert sections["Scores"] == "Not recorded.", "those were of other weights"
    export(tmp_path / "learned", tmp_path / "same", mix=(tmp_path / "start", 0.25))
    assert torch.equal(Student.from_pretrained(tmp_path / "same").head.weight, mixed)


def test_scores_of_other_readings_are_left_out(tmp_path: Path) -> None:
    config = ParseqConfig(
        charset="abcd", max_length=5, patch=(16, 32), width=32, depth=1, heads=2, decoder_heads=2, refine_iters=0
    )
    save_folder(Parseq(config), tmp_path / "learned", Card("learned", scores="| SVT | 647 | 500 | 77.28 |"))
    given = ["--student", str(tmp_path / "learned"), "--out"]
    assert main([*given, str(tmp_path / "same")]) == 0
    assert "77.28" in read_sections(tmp_path / "same")["Scores"]
    assert main([*given, str(tmp_path / "other"), "--nar"]) == 0
    assert read_sections(tmp_path / "other")["Scores"] == "Not recorded."


def test_a_difference_is_exit_1_and_names_the_words(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = Parity(9, (1, 2), {3: 9}, 0.5, 0, (Difference(4, 2, "abc", "abd", 0.5),))
    monkeypatch.setattr(onnx_export, "export_onnx", lambda *_: None)
    monkeypatch.setattr(folders, "OnnxReader", lambda *_: None)
    monkeypatch.setattr(folders, "check_parity", lambda *_: wrong)
    assert main(["--student", str(source), "--out", str(tmp_path / "out"), "--onnx"]) == 1
    printed = capsys.readouterr()
    assert "word 4 in a batch of 2: PyTorch reads 'abc', ONNX 'abd'" in printed.err
    assert not list(tmp_path.iterdir())


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run the command, expect a user's mistake, give its one line."""
    assert main(list(words)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("error: ")
    return printed.err


def test_mistakes_are_one_line_and_write_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "thesis.txt").write_text("years of work")
    out = str(tmp_path / "out")
    assert "not replaced" in refused(capsys, "--student", str(source), "--out", str(there))
    assert "not replaced" in refused(capsys, "--student", str(source), "--out", str(there), "--overwrite")
    assert "did you mean tiny" in refused(capsys, "--student", "tinny", "--out", out)
    assert "add --onnx" in refused(capsys, "--student", str(source), "--out", out, "--verify", str(there))
    assert "no pictures" in refused(capsys, "--student", str(source), "--out", out, "--onnx", "--verify", str(there))
    assert "is a file" in refused(capsys, "--student", str(source / "model.safetensors"), "--out", out)
    assert "report" in refused(capsys, "--student", str(source), "--out", out, "--report", str(tmp_path / "none.json"))
    mix = ("--student", str(source), "--out", out, "--mix")
    assert "the share is a number from 0 to 1" in refused(capsys, *mix, "tiny", "much")
    assert "the share is a number from 0 to 1" in refused(capsys, *mix, "tiny", "1.5")
    assert "only a reader and the one that it started from" in refused(capsys, *mix, "tiny", "0.5")
    assert "to mix in, weights are needed: " in refused(capsys, *mix, "rapidocr", "0.5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_the_visual_branch_of_a_clip4str_is_exported_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = SmallTeacherConfig(
        stem=(8, 8, 16), image_width=32, image_layers=3, image_heads=2, text_width=16, text_layers=3, text_heads=2,
        joint_width=16,
    )  # fmt: skip
    reader = Clip4Str(Clip4StrConfig(clip=clip, decoder_heads=2, context=12, refine_iters=0))
    reader.save_pretrained(tmp_path / "clip4str")
    source, out = str(tmp_path / "clip4str"), tmp_path / "out"
    assert "--visual-branch" in refused(capsys, "--student", source, "--out", str(out), "--onnx")
    assert main(["--student", source, "--out", str(out), "--visual-branch"]) == 0
    exported = load_reader(out)
    assert isinstance(exported, Clip4Str)
    assert exported.cross_decoder is None
    images = torch.rand(2, 3, *reader.image_size)
    with torch.no_grad():
        expected = next(iter(reader.eval().passes(images))).visual
        torch.testing.assert_close(exported(images), expected)
    capsys.readouterr()
    assert "no CLIP4STR" in refused(capsys, "--student", "tiny", "--out", str(tmp_path / "new"), "--visual-branch")


def test_weights_that_diverged_are_not_exported(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = Student.from_pretrained(source)
    with torch.no_grad():
        student.head.bias[3] = float("nan")
    student.save_pretrained(tmp_path / "diverged")
    error = refused(capsys, "--student", str(tmp_path / "diverged"), "--out", str(tmp_path / "out"))
    assert "head.bias has values that are NaN or infinite" in error
    with pytest.raises(UserError, match="NaN or infinite"):
        save_folder(student, tmp_path / "out", Card("mini"))
