"""CTC students: the exported reader has no decoder, and reads as the student in training does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from students.charset import Charset
from students.ctc import CtcLearner, CtcReader, learner
from students.errors import UserError
from students.remap import remap
from students.student import Student, StudentConfig

PARTS = {"encoder", "column_head"}


@pytest.fixture
def ctc_config(small_config: StudentConfig) -> StudentConfig:
    return dataclasses.replace(small_config, decoding="ctc")


@pytest.fixture
def trained(ctc_config: StudentConfig) -> CtcLearner:
    """Random weights some way from their start, so that it reads words of different lengths."""
    model = CtcLearner(ctc_config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return model.eval()


def test_the_exported_reader_shares_the_weights(trained: CtcLearner, images: Tensor) -> None:
    reader = trained.exported_model()
    assert {name.partition(".")[0] for name, _ in reader.named_parameters()} == PARTS
    assert reader.parameters_count < trained.parameters_count
    columns = trained.stages(images, trained.charset.encode(["a", "bc"] * 3)).columns
    assert torch.equal(reader(images), columns)  # type: ignore[arg-type]
    assert trained.read_batch(images) == reader.read_batch(images)
    assert len({len(reading.text) for reading in reader.read_batch(images)}) > 1
    with torch.no_grad():
        trained.column_head.bias[0] += 100  # type: ignore[index,union-attr]
    assert [reading.text for reading in reader.read_batch(images)] == [""] * 6


@pytest.mark.parametrize("training", [True, False])
def test_it_is_in_the_mode_of_the_student(trained: CtcLearner, training: bool) -> None:
    reader = trained.train(training).exported_model()
    assert {part.training for part in reader.modules()} == {training}


def test_the_folder_holds_encoder_and_column_head_only(trained: CtcLearner, images: Tensor, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert {name.partition(".")[0] for name in weights} == PARTS
    loaded = CtcReader.from_pretrained(tmp_path, trained.charset)
    assert loaded.config == trained.config
    assert not loaded.training
    assert loaded.read_batch(images) == trained.read_batch(images)
    assert not loaded.chooses_decoding
    with pytest.raises(UserError, match="does not describe a student"):
        Student.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="alphabet of 36"):
        CtcReader.from_pretrained(tmp_path, Charset.load("94"))


def test_a_reader_goes_on_learning_beside_a_fresh_decoder(trained: CtcLearner, tmp_path: Path) -> None:
    trained.save_pretrained(tmp_path)
    reader = CtcReader.from_pretrained(tmp_path)
    again = learner(reader)
    assert isinstance(again, CtcLearner)
    after, before = again.state_dict(), trained.state_dict()
    same = {name.partition(".")[0] for name in after if torch.equal(after[name], before[name])}
    assert same >= PARTS
    assert not torch.equal(again.head.weight, trained.head.weight)
    assert torch.equal(reader.column_head.weight, again.exported_model().column_head.weight)  # type: ignore[arg-type]
    assert type(learner(reader, "ar")) is Student


def test_a_student_learns_to_read_otherwise(student: Student) -> None:
    off_columns = learner(student, "ctc")
    assert isinstance(off_columns, CtcLearner)
    torch.testing.assert_close(off_columns.state_dict(), student.state_dict(), rtol=0, atol=0)
    at_once = learner(student, "nar", 2)
    assert (at_once.config.decoding, at_once.config.refine_iters) == ("nar", 2)
    assert learner(at_once).config == at_once.config, "nothing said, nothing changed"
    assert learner(at_once, "ctc").config.refine_iters == 0
    without = Student(dataclasses.replace(student.config, column_head=False))
    assert learner(without, "ctc").column_head is not None


def test_rows_of_the_column_head_move_with_their_characters(trained: CtcLearner) -> None:
    remapped, _ = remap(trained, Charset("zyx"), 5)
    assert isinstance(remapped, CtcLearner)
    old, new = trained.exported_model().column_head, remapped.exported_model().column_head
    positions = [trained.charset.ids[char] for char in "zyx"]
    assert torch.equal(new.weight[1:], old.weight[positions])  # type: ignore[index,arg-type]


def test_kinds_are_not_mixed_up(small_config: StudentConfig, ctc_config: StudentConfig) -> None:
    for make, config in ((Student, ctc_config), (CtcLearner, small_config), (CtcReader, small_config)):
        with pytest.raises(UserError, match="another kind of student"):
            make(config)
    for change in ({"column_head": False}, {"encoder": "vit", "column_head": False}):
        with pytest.raises(UserError, match="column head of encoder conv"):
            dataclasses.replace(ctc_config, **change)
