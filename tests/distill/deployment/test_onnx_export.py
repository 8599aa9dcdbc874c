"""ONNX reads as PyTorch does, at every batch size and word length, and needs nothing but its one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from distill.deployment.comparison_words import draw_words
from distill.deployment.onnx_export import export_onnx
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.parity import check_parity, logit_difference, split_batches
from students.charset import CHARSETS
from students.ctc import CtcReader
from students.student import Student, StudentConfig


@pytest.fixture(scope="module")
def reader(onnx_file: Path) -> OnnxReader:
    return OnnxReader(onnx_file, threads=1)


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 10])
def test_logits_and_steps_equal_at_every_batch_size(learned, reader: OnnxReader, batch: int) -> None:
    for start in range(len(learned.words) - batch + 1):
        images = learned.images[start : start + batch]
        with torch.no_grad():
            expected = learned.student(images).numpy()
        actual = reader.logits(images.numpy())
        longest = max(map(len, learned.words[start : start + batch]))
        assert actual.shape == expected.shape == (batch, longest + 1, 15)
        np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_strings_equal_for_every_length(learned, reader: OnnxReader) -> None:
    readings = reader.read_arrays(learned.images.numpy())
    assert [reading.text for reading in readings] == learned.words
    expected = learned.student.read_batch(learned.images)
    assert [r.confidence for r in readings] == pytest.approx([r.confidence for r in expected], abs=1e-4)


def test_loop_ends_after_the_longest_word_without_an_end(learned, onnx_file: Path, tmp_path: Path) -> None:
    # The end's bias far down: no word ever ends, both must take exactly max_length + 1 steps.
    model = onnx.load(onnx_file)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("head.bias"))
    changed = onnx.numpy_helper.to_array(bias).copy()
    changed[0] = -100
    bias.CopyFrom(onnx.numpy_helper.from_array(changed, bias.name))
    onnx.save(model, tmp_path / "endless.onnx")
    student = Student(learned.student.config).eval()
    student.load_state_dict(learned.student.state_dict())
    with torch.no_grad():
        student.head.bias[0] = -100
        expected = student(learned.images).numpy()
    actual = OnnxReader(tmp_path / "endless.onnx", threads=1).logits(learned.images.numpy())
    assert actual.shape == expected.shape == (len(learned.words), 11, 15)
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_parity_covers_lengths_and_batches(learned, reader: OnnxReader) -> None:
    images = torch.cat([learned.images, draw_words("0123456789abcd", (32, 128), count=20)])
    parity = check_parity(learned.student, reader, images)
    assert parity.agrees, parity
    assert parity.batches[:5] == (1, 2, 3, 5, 8)
    assert {len(word) for word in learned.words} <= set(parity.lengths)
    assert sum(parity.lengths.values()) == parity.words == 50
    assert "no difference" in str(parity)


def test_parity_names_the_words_that_differ(learned, reader: OnnxReader) -> None:
    other = Student(learned.student.config).eval()
    other.load_state_dict(learned.student.state_dict())
    with torch.no_grad():
        other.head.weight[[3, 4]] = other.head.weight[[4, 3]]  # reads 2 for 3
        other.head.bias[[3, 4]] = other.head.bias[[4, 3]]
    parity = check_parity(other, reader, learned.images)
    assert not parity.agrees
    actual = {difference.onnx: difference for difference in parity.differences}
    assert actual["39ab"].pytorch.startswith("2")
    assert "'39ab'" in str(actual["39ab"])


def test_only_a_tie_excuses_another_choice() -> None:
    ours = torch.tensor([[0.0, 2.0, 1.0], [0.0, 1.0, 1.00005], [3.0, 0.0, 0.0]])
    theirs = ours.clone()
    theirs[1] = torch.tensor([0.0, 1.00005, 1.0])
    theirs[2] = 7.0  # follows from another beginning
    gap, tie = logit_difference(ours, theirs)
    assert tie
    assert gap == pytest.approx(5e-5, abs=1e-6)
    assert logit_difference(ours, ours[:2]) == (float("inf"), False), "a reading without its end"
    assert logit_difference(ours, torch.cat([ours, ours])) == (0.0, False), "steps after the end are nobody's"
    ours[1, 2] = 1.01
    gap, tie = logit_difference(ours, theirs)
    assert not tie
    assert gap == pytest.approx(0.01)
    assert logit_difference(ours, ours * float("nan"))[0] == float("inf")


def test_cuts_use_all_pictures_once() -> None:
    assert list(split_batches(10, (1, 4))) == [(0, 1), (1, 4), (5, 1), (6, 4)]


def test_file_is_whole_and_no_larger_than_its_weights(learned, onnx_file: Path) -> None:
    assert [file.name for file in onnx_file.parent.glob("student*")] == ["student.onnx"]
    model = onnx.load(onnx_file)
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 18)}
    assert [node.op_type for node in model.graph.node].count("Loop") == 1
    assert onnx_file.stat().st_size < 1.15 * 4 * learned.student.parameters_count + 80_000
    assert b".py" not in onnx_file.read_bytes(), "no source lines, no paths"
    batch, *size = (dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
    assert batch == "batch"
    assert size == [3, 32, 128]


def test_export_leaves_the_student_as_it_was(learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.deployment import onnx_export as exporter

    seen = []
    monkeypatch.setitem(exporter.BUILDERS, Student, lambda student: seen.append(student.training) or 1 / 0)
    learned.student.train()
    with pytest.raises(ZeroDivisionError):
        exporter.export_onnx(learned.student, tmp_path / "student.onnx")
    assert seen == [False]
    assert learned.student.training
    learned.student.eval()
    assert not list(tmp_path.iterdir()), "nothing half-written is left"


def test_a_reader_of_free_width_takes_any_width(tmp_path: Path) -> None:
    config = StudentConfig(
        charset=CHARSETS["36"], encoder="conv", stem=(8, 8, 16), width=32, depth=3, heads=2, decoder_heads=2,
        column_head=True, taps="even", decoding="ctc", keep_aspect=True, image_size=(32, 160),
    )  # fmt: skip
    torch.manual_seed(0)
    reader = CtcReader(config).eval()
    export_onnx(reader, tmp_path / "student.onnx")
    exported = OnnxReader(tmp_path / "student.onnx")
    assert exported.keep_aspect
    images = draw_words(config.charset, config.image_size, 8, keep_aspect=True)
    assert check_parity(reader, exported, images).agrees
    for width, padding in ((32, 0), (101, 0), (70, 58)):
        picture = torch.nn.functional.pad(images[:2, :, :, :width], (0, padding))
        with torch.no_grad():
            expected = reader(picture).numpy()
        np.testing.assert_allclose(exported.logits(picture.numpy()), expected, atol=1e-4)
