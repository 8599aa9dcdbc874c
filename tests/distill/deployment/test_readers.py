from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill.deployment.readers import ModelReader, OnnxWordReader, WordReader, open_reader, place
from students.errors import UserError
from students.student import Student, StudentConfig
from tests.distill.conftest import Learned


def test_folder_and_onnx_read_alike(learned: Learned, onnx_file: Path, tmp_path: Path) -> None:
    learned.student.save_pretrained(tmp_path / "mine" / "student")
    student = open_reader(str(tmp_path / "mine" / "student"))
    onnx = open_reader(str(onnx_file), role="baseline", threads=1)
    assert isinstance(student, WordReader)
    assert isinstance(onnx, WordReader)
    assert student.name == "mine", "a run's student goes by the run's name"
    assert (student.role, onnx.role) == ("student", "baseline")
    assert student.params == onnx.params
    assert student.charset == onnx.charset
    for reader in (student, onnx):
        assert [reading.text for reading in reader.read_batch(learned.images)] == learned.words
    assert place(onnx, "cpu", 1) is onnx
    other = place(onnx, "cpu", 2)
    assert isinstance(other, OnnxWordReader)
    assert (other.threads, other.name, other.role) == (2, onnx.name, "baseline")


def test_reading_leaves_a_student_in_training() -> None:
    config = StudentConfig(
        encoder="conv", stem=(8, 8, 16), width=32, depth=3, heads=2, decoder_depth=3, decoder_heads=2, dropout=0.5,
        taps="even",
    )  # fmt: skip
    student = Student(config).train()
    reader = ModelReader(student, "loop")
    first, second = (reader.read_batch(torch.zeros(1, 3, 32, 128)) for _ in range(2))
    assert first == second, "dropout must be off"
    assert student.training


@pytest.mark.parametrize("name", ["no-such-student", "no-such.onnx"])
def test_a_reader_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match=name):
        open_reader(name)
