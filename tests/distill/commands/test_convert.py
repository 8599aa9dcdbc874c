"""`convert`: a folder that every command takes, and an account of every weight in the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from distill.commands.convert import main
from distill.commands.export import main as export
from distill.commands.read import main as read
from distill.schema import Config
from distill.training.building import build_task
from distill.training.sections import StudentSection, TeacherSection
from students.student import Student
from tests.distill.conversion.conftest import CONFIG, Published, published

__all__ = ["published"]


@pytest.fixture
def checkpoint(published: Published, tmp_path: Path) -> Path:
    return published.save(tmp_path / "clipocr.ckpt", {**published.tensors, "ema.decay": torch.ones(1)})


def test_a_converted_reader_reads(
    checkpoint: Path, published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reader"
    assert main(["clipocr", str(checkpoint), "--out", str(out), "--terms", "Research only."]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(
        f"Student: {published.student.parameters_count:,} weights, 13 characters, words of up to 9"
    )
    message = {line.partition(": ")[0]: line.partition(": ")[2] for line in printed}
    assert "norm_head_vis2.* (2)" in message["in the file, left out (guidance heads)"]
    assert "clip_mean" in message["in the file, left out (teacher)"]
    assert message["in the file, left out (unknown)"] == "ema.decay"
    assert "model.safetensors" in message[str(out)]
    assert sorted(file.name for file in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "Converted from `clipocr.ckpt` (clipocr, after 7 steps of the reference implementation)" in card
    assert "Research only." in card
    Image.new("RGB", (60, 20), "white").save(tmp_path / "word.png")
    assert read(["--student", str(out), "--json", str(tmp_path / "word.png")]) == 0
    output = json.loads(capsys.readouterr().out)
    expected = published.student.read([tmp_path / "word.png"])[0]
    assert output[0]["word"] == expected.text


def test_missing_weights_that_reading_does_not_need_are_told(
    published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = published.save(tmp_path / "a.ckpt", published.without("clip.", "align_proj"))
    assert main(["clipocr", str(file), "--out", str(tmp_path / "out")]) == 0
    missing = "not in the file, not needed to read: align_proj0, align_proj1, align_proj2, clip.*"
    assert missing in capsys.readouterr().out.splitlines()


def test_the_distillation_goes_on(checkpoint: Path, published: Published, tmp_path: Path) -> None:
    out = tmp_path / "reader"
    assert main(["clipocr", str(checkpoint), "--out", str(out), "--guidance", "--dtype", "float32"]) == 0
    (tmp_path / "alphabet.txt").write_text(CONFIG.charset)
    student = StudentSection(init=str(out), charset=str(tmp_path / "alphabet.txt"))
    guidance = out / "guidance"
    task = build_task(Config(student=student, teacher=TeacherSection(name=str(guidance / "clip"), heads=str(guidance))))
    for module, origin in ((task.student, published.student), (task.heads["0"], published.heads)):
        stored = origin.state_dict()
        assert all(torch.equal(value, stored[name]) for name, value in module.state_dict().items())
    # What is exported of it is the student alone.
    assert export(["--student", str(out), "--out", str(tmp_path / "exported")]) == 0
    assert not (tmp_path / "exported" / "guidance").exists()
    assert main(["clipocr", str(checkpoint), "--out", str(out), "--overwrite"]) == 0
    assert not guidance.exists(), "the folder is replaced as a whole"


@pytest.mark.slow
def test_a_converted_reader_exports_to_onnx(checkpoint: Path, tmp_path: Path) -> None:
    assert main(["clipocr", str(checkpoint), "--out", str(tmp_path / "reader")]) == 0
    assert export(["--student", str(tmp_path / "reader"), "--out", str(tmp_path / "exported"), "--onnx"]) == 0
    assert (tmp_path / "exported" / "student.onnx").is_file()


def test_mistakes_are_told_in_a_line(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("x")
    out = ["--out", str(tmp_path / "out")]
    for given, message in (
        (
            ["clipocr", str(checkpoint), "--out", str(tmp_path / "there")],
            "holds other things than a student; it is not replaced",
        ),
        (["clipocr", str(tmp_path / "absent.ckpt"), *out], "no such file"),
        (["clipocr", str(checkpoint), *out, "--heads", "6"], "such as 6,12"),
        (["clipocr", str(checkpoint), *out, "--image", "32x128"], "such as 32,128"),
        (["clipocr", str(checkpoint), *out, "--clip", str(tmp_path / "absent.pt")], "no such file"),
        (["parseq", str(checkpoint), *out, "--clip", "clip.pt"], "a PARSeq has no CLIP"),
        (["parseq", str(checkpoint), *out, "--guidance"], "--guidance is for clipocr"),
    ):
        assert main(given) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module."])
def test_checkpoints_of_other_training_programs_are_understood(
    published: Published, tmp_path: Path, wrapper: str
) -> None:
    tensors = {f"{wrapper}{name}": value for name, value in published.tensors.items()}
    file = tmp_path / "wrapped.pt"
    torch.save({"epoch": 1, "model_state_dict": tensors}, file)
    (tmp_path / "alphabet.txt").write_text(CONFIG.charset)
    options = ["--charset", str(tmp_path / "alphabet.txt"), "--heads", f"{CONFIG.heads},{CONFIG.decoder_heads}"]
    assert main(["clipocr", str(file), "--out", str(tmp_path / "out"), *options]) == 0
    stored = Student.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in published.student.state_dict().items())


def test_diverged_weights_are_refused(published: Published, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {**published.tensors, "head.bias": published.tensors["head.bias"] * float("nan")}
    file = published.save(tmp_path / "diverged.ckpt", tensors)
    assert main(["clipocr", str(file), "--out", str(tmp_path / "out")]) == 2
    assert "head.bias has values that are NaN or infinite" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
