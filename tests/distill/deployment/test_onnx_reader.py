"""An ONNX file is read without torch, from pictures of any kind; files that are none, or damaged, are refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from distill.deployment.onnx_reader import OnnxReader
from students.errors import UserError
from tests.distill.conftest import Learned

BLOCK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in %r:
            raise ImportError(f"{name} must not be imported")

sys.meta_path.insert(0, Blocker())
"""
HEAVY = ("torch", "torchvision", "timm", "open_clip", "onnx", "onnxscript", "accelerate", "safetensors", "rich", "lmdb")
"""Packages that reading an ONNX file must not need."""


@pytest.fixture(scope="module")
def reader(onnx_file: Path) -> OnnxReader:
    return OnnxReader(onnx_file, threads=1)


def test_reader_knows_all_from_the_file(reader: OnnxReader, learned) -> None:
    assert (reader.name, reader.charset.characters) == ("mini", "0123456789abcd")
    assert (reader.image_size, reader.max_length) == ((32, 128), 10)
    assert reader.parameters_count == learned.student.parameters_count


def test_reading_needs_no_torch(learned: Learned, onnx_file: Path, root: Path, tmp_path: Path) -> None:
    learned.pictures[3].save(tmp_path / "word.png")
    script = f"""{BLOCK % (HEAVY,)}
import json
import symdistill
from distill.__main__ import main

readings = symdistill.load({str(onnx_file)!r}).read(["word.png", "word.png"])
code = main(["read", "--student", {str(onnx_file)!r}, "word.png"])
print(json.dumps([code, [reading.text for reading in readings]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    line, last = done.stdout.splitlines()
    assert line.startswith("word.png\t39ab\t")
    code, words = json.loads(last)
    assert (code, words) == (0, ["39ab", "39ab"])


def test_one_picture_or_many_of_any_kind(learned: Learned, reader: OnnxReader, tmp_path: Path) -> None:
    learned.pictures[3].save(tmp_path / "word.png")
    path, picture = tmp_path / "word.png", learned.pictures[3]
    for one in (path, str(path), path.read_bytes(), picture, np.asarray(picture), np.asarray(picture.convert("L"))):
        assert reader.read(one).text == "39ab"
        assert [reading.text for reading in reader.read([one, one])] == ["39ab"] * 2
    stacked = np.stack([np.asarray(picture.resize((96, 32))) for picture in learned.pictures[3:5]])
    assert [reading.text for reading in reader.read(stacked)] == ["39ab", "c2c2c"]
    assert reader.read([]) == []
    with pytest.raises(UserError, match=r"none\.png: no such file"):
        reader.read(tmp_path / "none.png")


def test_many_pictures_are_decoded_lazily(learned: Learned, reader: OnnxReader) -> None:
    taken = 0

    def endless() -> Iterator[Image.Image]:
        nonlocal taken
        for picture in repeat(learned.pictures[3]):
            taken += 1
            yield picture

    readings = reader.read_iter(endless(), batch_size=4)
    assert [next(readings).text for _ in range(6)] == ["39ab"] * 6
    assert taken == 8


def test_a_batch_reads_as_pytorch_does(learned: Learned, reader: OnnxReader) -> None:
    ours, theirs = reader.read(learned.pictures, batch_size=3), learned.student.read(learned.pictures, batch_size=4)
    assert [reading.text for reading in ours] == [reading.text for reading in theirs] == learned.words
    assert [r.confidence for r in ours] == pytest.approx([r.confidence for r in theirs], abs=1e-4)


def edited(source: Path, target: Path, **facts: str | None) -> Path:
    """Copy an ONNX file with some of its metadata changed, or left out when None."""
    model = onnx.load(source)
    stored = {entry.key: entry.value for entry in model.metadata_props} | facts
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {key: value for key, value in stored.items() if value is not None})
    onnx.save(model, target)
    return target


def test_it_is_sent_to_another_process_by_its_file(
    onnx_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(onnx_file.parent)
    reader = OnnxReader(onnx_file.name, threads=1)
    stored = pickle.dumps(reader)
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(stored)  # noqa: S301 - made here
    assert (again.path, again.threads, again.language_model) == (onnx_file.resolve(), 1, None)
    assert reader.place("cpu", threads=1).path == reader.path
    images = np.random.default_rng(0).random((2, 3, 32, 128), dtype=np.float32) * 2 - 1
    assert np.array_equal(again.logits(images), reader.logits(images))


def test_broken_files_are_the_users_mistake(onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        OnnxReader(tmp_path / "none.onnx")
    noise = tmp_path / "noise.onnx"
    noise.write_bytes(b"no protobuf at all")
    with pytest.raises(UserError, match=r"noise\.onnx is no ONNX"):
        OnnxReader(noise)
    short = tmp_path / "short.onnx"
    short.write_bytes(onnx_file.read_bytes()[:20_000])
    with pytest.raises(UserError, match=r"short\.onnx"):
        OnnxReader(short)
    with pytest.raises(UserError, match="holds no student"):
        OnnxReader(edited(onnx_file, tmp_path / "other.onnx", format=None))
    with pytest.raises(UserError, match="lacks what a reader needs"):
        OnnxReader(edited(onnx_file, tmp_path / "facts.onnx", charset=None))
    with pytest.raises(UserError, match="lacks what a reader needs"):
        OnnxReader(edited(onnx_file, tmp_path / "size.onnx", image_size=json.dumps("32")))


def wrapped(field: int, content: bytes) -> bytes:
    """A protobuf message with one field that holds `content`."""
    size = len(content)
    return bytes([field << 3 | 2, *(size >> 7 * n & 127 | 128 for n in range(3)), size >> 21]) + content


def test_messages_that_nest_without_end_are_refused(tmp_path: Path) -> None:
    content = b""
    for number in range(3000):  # a graph's node, its attribute, the attribute's graph, from the inside out
        content = wrapped((6, 5, 1)[number % 3], content)
    (tmp_path / "nested.onnx").write_bytes(wrapped(7, content))
    with pytest.raises(UserError, match="is no ONNX file"):
        OnnxReader(tmp_path / "nested.onnx")


def test_weights_in_other_files_are_refused(onnx_file: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    onnx.save(model, tmp_path / "split.onnx", save_as_external_data=True, size_threshold=0, location="elsewhere")
    with pytest.raises(UserError, match="weights in other files"):
        OnnxReader(tmp_path / "split.onnx")


@pytest.mark.parametrize(("value", "where"), [(np.nan, "all"), (np.nan, "one"), (np.inf, "one")])
def test_weights_that_are_no_numbers_are_refused(onnx_file: Path, tmp_path: Path, value: float, where: str) -> None:
    model = onnx.load(onnx_file)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("head.bias"))
    changed = onnx.numpy_helper.to_array(weight).copy()
    changed[...] = value if where == "all" else changed
    changed.flat[-1] = value
    weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
    onnx.save(model, tmp_path / "diverged.onnx")
    with pytest.raises(UserError, match="NaN or infinite"):
        OnnxReader(tmp_path / "diverged.onnx")


def test_nan_that_only_computing_brings_is_refused_too(reader: OnnxReader) -> None:
    with pytest.raises(UserError, match="NaN instead of probabilities"):
        reader.read_arrays(np.full((1, 3, 32, 128), np.nan, np.float32))
