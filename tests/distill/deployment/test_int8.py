"""8-bit weights: what is stored, what it costs in words, and that too many changed words are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from distill.commands.export import main
from distill.deployment import int8
from distill.deployment.card import Card
from distill.deployment.folder import Exported, save_folder
from distill.deployment.int8 import check_int8, quantize
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.parity import Int8Error, Word
from distill.deployment.snippets import FILES, int8_file
from students.errors import UserError
from tests.distill.deployment.test_onnx_kinds import make


@pytest.fixture(scope="module")
def words() -> list[Word]:
    noise = np.random.default_rng(0)
    pictures = [Image.fromarray(noise.integers(0, 256, (4, 16, 3), np.uint8)).resize((128, 32)) for _ in range(24)]
    return [Word(picture, "ab" if number else None) for number, picture in enumerate(pictures)]


@pytest.fixture(scope="module")
def exported(words: list[Word], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("int8") / "mini"
    return save_folder(make("ctc"), folder, Card("mini"), targets=["onnx"], words=words, int8_limit=100)


def test_weights_are_within_half_a_step_of_their_own_channel() -> None:
    source = np.random.default_rng(0)
    kernel = source.standard_normal((8, 16, 3, 3)).astype(np.float32) * np.logspace(-3, 3, 8)[:, None, None, None]
    kernel[5] = 0
    few = source.standard_normal((2, 8, 1, 1)).astype(np.float32)
    product = source.standard_normal((5, 7)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "kernel"], ["grid"]),
            helper.make_node("Conv", ["grid", "few"], ["less"]),
            helper.make_node("MatMul", ["less", "product"], ["scores"]),
        ],
        "test",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 16, 7, 7])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 2, 5, 7])],
        [
            numpy_helper.from_array(kernel.astype(np.float32), "kernel"), numpy_helper.from_array(few, "few"),
            numpy_helper.from_array(product, "product"),
        ],
    )  # fmt: skip
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(model, {"character": "a\nb"})
    smaller = quantize(model)
    onnx.checker.check_model(smaller)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in smaller.graph.initializer}
    scales = stored["kernel/scale"]
    error = np.abs(stored["kernel/int8"] * scales[:, None, None, None] - kernel)
    assert (error.max(axis=(1, 2, 3)) <= scales * 0.5001).all()
    assert (error[5] == 0).all()
    np.testing.assert_array_equal(stored["few"], few)
    assert "product" not in stored
    assert {entry.key: entry.value for entry in smaller.metadata_props} == {"character": "a\nb"}
    images = source.standard_normal((1, 16, 7, 7)).astype(np.float32)
    whole, small = (
        onnxruntime.InferenceSession(each.SerializeToString()).run(None, {"images": images})[0]
        for each in (model, smaller)
    )
    assert np.abs(whole - small).max() < 0.05 * np.abs(whole).max()


def test_small_file_is_read_and_measured(exported: Exported, words: list[Word]) -> None:
    file, small = (exported.folder / name for name in (FILES["onnx"], int8_file("onnx")))
    check = check_int8(make("ctc"), "onnx", (file, small), words)
    whole, eighth = (
        OnnxReader(each, threads=1).read([word.picture for word in words], batch_size=1) for each in (file, small)
    )
    assert check.changed == sum(one.text != other.text for one, other in zip(whole, eighth, strict=True))
    assert (check.words, check.labelled) == (24, 23), "a word without a label counts for what changes alone"
    assert check.sizes == (file.stat().st_size, small.stat().st_size)
    assert check.sizes[1] < check.sizes[0]
    assert min(check.milliseconds) > 0
    assert f"{check.changed} of 24 words change" in str(check)
    card = (exported.folder / "README.md").read_text(encoding="utf-8")
    assert "## 8-bit weights\n\n- student.int8.onnx (onnxruntime): " in card
    assert int8_file("onnx") in exported.files


def test_more_changed_words_than_allowed_leave_nothing(
    exported: Exported, words: list[Word], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(model: onnx.ModelProto) -> onnx.ModelProto:
        smaller = quantize(model)
        name = next(node.input[2] for node in smaller.graph.node if node.op_type == "Conv" and len(node.input) == 3)
        bias = next(tensor for tensor in smaller.graph.initializer if tensor.name == name)
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 3, name))
        return smaller

    monkeypatch.setattr(int8, "quantize", damage)
    for name in ("student.onnx", "config.json"):
        (tmp_path / name).write_bytes((exported.folder / name).read_bytes())
    with pytest.raises(Int8Error, match=r"24 words change .* more than the 0.5% of --int8-limit"):
        int8.write_int8(make("ctc"), tmp_path, ["onnx"], words, 0.5)


def test_what_cannot_be_measured_or_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["--student", "tiny-free", "--out", str(tmp_path / "out"), "--int8"]
    crops = ["--verify", str(tmp_path)]
    for arguments, message in (
        (["--target", "onnx"], "--int8 is measured on real words"),
        (crops, "add --onnx or --target"),
        (["--target", "opencv", *crops], "opencv runs no 8-bit weights"),
        (["--target", "onnx", *crops, "--int8-limit", "101"], "a percentage from 0 to 100"),
    ):
        assert main([*start, *arguments]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="measured on real words"):
        save_folder(make("ctc"), tmp_path / "out", Card("mini"), int8_limit=1)
    assert not list(tmp_path.iterdir())
