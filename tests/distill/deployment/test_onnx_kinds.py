"""Students that read all at once, and off columns, as ONNX; and the card's example that spells from columns."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from torch import Tensor

from distill.deployment.card import Card
from distill.deployment.comparison_words import ComparisonWord
from distill.deployment.folder import save_folder
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.parity import check_parity
from students.ctc import LEARNERS
from students.errors import UserError
from students.pictures import to_tensor
from students.reading import Reader
from students.student import StudentConfig, StudentDecoding
from tests.distill.deployment.test_onnx_reader import edited


def make(decoding: StudentDecoding, refine_iters: int = 0) -> Reader:
    """Random weights some way from their start: it reads words of different lengths."""
    torch.manual_seed(3)
    built = LEARNERS[decoding](
        StudentConfig(
            charset="0123456789abcd", max_length=9, encoder="conv", stem=(8, 8, 16), width=32, depth=3, heads=2,
            mlp_ratio=2.0, decoder_depth=3, decoder_heads=2, decoder_mlp_ratio=2.0, column_head=True, taps="even",
            decoding=decoding, refine_iters=refine_iters,
        )
    )  # fmt: skip
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
        built.head.bias[0] += 4
        built.column_head.bias[0] += 2  # type: ignore[union-attr,operator]
    return built.eval().exported_model()


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (4, 16, 3), np.uint8)).resize((128, 32)) for _ in range(24)]


@pytest.fixture(scope="module")
def images(pictures: list[Image.Image]) -> Tensor:
    return to_tensor(pictures)


@pytest.fixture(scope="module")
def ctc_folder(pictures: list[Image.Image], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CTC reader with its ONNX file, which has been compared with PyTorch."""
    words = [ComparisonWord(picture) for picture in pictures]
    done = save_folder(
        make("ctc"), tmp_path_factory.mktemp("ctc") / "mini", Card("mini"), targets=["onnx"], words=words
    )
    assert done.parity is not None
    assert done.parity.agrees
    assert len(done.parity.lengths) > 2
    return done.folder


def check(reader: Reader, exported: OnnxReader, images: Tensor, steps: int) -> None:
    """The same at batch sizes that the traced example hadn't."""
    for batch in (1, 2, 7):
        with torch.no_grad():
            expected = reader(images[:batch]).numpy()
        actual = exported.logits(images[:batch].numpy())
        assert actual.shape == expected.shape == (batch, steps, 15)
        np.testing.assert_allclose(actual, expected, atol=5e-4)
    assert check_parity(reader, exported, images, batches=(1, 3, 5)).agrees


def test_columns(ctc_folder: Path, images: Tensor) -> None:
    reader, exported = make("ctc"), OnnxReader(ctc_folder / "student.onnx", threads=1)
    check(reader, exported, images, steps=32)
    assert exported.parameters_count == reader.parameters_count
    model = onnx.load(ctc_folder / "student.onnx")
    weights = sum(np.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == 1)
    assert weights < 1.1 * reader.parameters_count, "nothing of the decoder is left"
    for ours, theirs in zip(reader.read_batch(images), exported.read_arrays(images.numpy()), strict=True):
        assert ours.text == theirs.text
        assert ours.confidence == pytest.approx(theirs.confidence, rel=1e-2)


@pytest.mark.slow
def test_nar(pictures: list[Image.Image], images: Tensor, tmp_path: Path) -> None:
    reader = make("nar", refine_iters=1)
    words = [ComparisonWord(picture) for picture in pictures]
    save_folder(reader, tmp_path / "mini", Card("mini"), targets=["onnx"], words=words)
    check(reader, OnnxReader(tmp_path / "mini" / "student.onnx", threads=1), images, steps=10)
    graph = onnx.load(tmp_path / "mini" / "student.onnx").graph
    assert not [node for node in graph.node if node.op_type == "Loop"]


def test_the_example_of_the_card_spells_from_columns(ctc_folder: Path, pictures: list[Image.Image]) -> None:
    card = (ctc_folder / "README.md").read_text(encoding="utf-8")
    assert 'symdistill.load("THIS_FOLDER")' in card
    assert "summed over all its alignments" in card
    script = card.rpartition("```python\n")[2].partition("```")[0]
    for number, picture in enumerate(pictures):
        picture.save(ctc_folder / f"{number}.png")
    files = [f"{number}.png" for number in range(len(pictures))]
    block = "import sys\nfor name in ('torch', 'onnx', 'students', 'distill'):\n    sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{block}{script}\nprint(json.dumps([read(path) for path in {files!r}]))\n"],
        cwd=ctc_folder, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    expected = make("ctc").read(list(pictures))
    assert [word for word, _ in json.loads(done.stdout)] == [reading.text for reading in expected]
    assert [sure for _, sure in json.loads(done.stdout)] == pytest.approx(
        [reading.confidence for reading in expected], rel=1e-2
    )


def test_an_unknown_kind_of_logits_is_refused(ctc_folder: Path, tmp_path: Path) -> None:
    for kind in ("sideways", ["ctc"]):
        broken = edited(ctc_folder / "student.onnx", tmp_path / "broken.onnx", logits=json.dumps(kind))
        with pytest.raises(UserError, match="lacks what a reader needs"):
            OnnxReader(broken)
    for old, kind in ((None, "attention"), ('"positions"', "attention"), ('"columns"', "ctc")):
        file = edited(ctc_folder / "student.onnx", tmp_path / "old.onnx", logits=None, spelling=old)
        assert OnnxReader(file).logits_kind == kind, "as version 0.1 wrote it"
