"""8-bit weights: what is stored, what it costs in words, and that too many changed words are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from distill.commands.export import main
from distill.deployment import int8
from distill.deployment.card import Card
from distill.deployment.comparison_words import ComparisonWord
from distill.deployment.folder import Exported, save_folder
from distill.deployment.int8 import Int8Check, check_int8, quantize
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.parity import ParityError
from distill.deployment.snippets import FILES, int8_file
from students.errors import UserError
from students.onnx_files import open_session
from teachers.registry import load_reader
from tests.distill.deployment.test_onnx_kinds import make


@pytest.fixture(scope="module")
def words() -> list[ComparisonWord]:
    noise = np.random.default_rng(0)
    pictures = [Image.fromarray(noise.integers(0, 256, (4, 16, 3), np.uint8)).resize((128, 32)) for _ in range(24)]
    return [ComparisonWord(picture, "ab" if number else None) for number, picture in enumerate(pictures)]


@pytest.fixture(scope="module")
def exported(words: list[ComparisonWord], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("int8") / "mini"
    return save_folder(make("ctc"), folder, Card("mini"), targets=["onnx"], words=words, int8_limit=100)


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """A convolution with channels of many sizes, a small one, and products of both kinds."""
    source = np.random.default_rng(0)
    kernel = source.standard_normal((8, 16, 3, 3)).astype(np.float32) * np.logspace(-3, 3, 8)[:, None, None, None]
    kernel[5] = 0
    stored = {
        "kernel": kernel.astype(np.float32),
        "few": source.standard_normal((2, 8, 1, 1)).astype(np.float32),
        "product": source.standard_normal((25, 40)).astype(np.float32),
        "rows": source.standard_normal((20, 40)).astype(np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["images", "kernel"], ["grid"]),
            helper.make_node("Conv", ["grid", "few"], ["less"]),
            helper.make_node("Reshape", ["less", "shape"], ["flat"]),
            helper.make_node("MatMul", ["flat", "product"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "rows"], ["scores"], transB=1),
        ],
        "test",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 16, 7, 7])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [2, 20])],
        [numpy_helper.from_array(values, name) for name, values in stored.items()]
        + [numpy_helper.from_array(np.array([2, 25]), "shape")],
    )
    made = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])
    helper.set_model_props(made, {"character": "a\nb"})
    return made


def computed(model: onnx.ModelProto) -> np.ndarray:
    images = np.random.default_rng(1).standard_normal((1, 16, 7, 7)).astype(np.float32)
    session = open_session(model.SerializeToString(), Path("test.onnx"), 1)
    return np.asarray(session.run(None, {"images": images})[0])


def values_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("products", [True, False])
def test_weights_are_within_half_a_step_of_their_own_channel(model: onnx.ModelProto, products: bool) -> None:
    smaller = quantize(model, products)
    onnx.checker.check_model(smaller)
    whole, stored = values_of(model), values_of(smaller)
    for name, axes in {"kernel": (1, 2, 3), **({} if products else {"rows": (1,), "product": (0,)})}.items():
        scales = stored[f"{name}/scale"]
        assert stored[f"{name}/int8"].dtype == np.int8
        assert scales.size == scales.squeeze().shape[0], "one an output channel"
        error = np.abs(stored[f"{name}/int8"] * scales - whole[name])
        assert (error.max(axis=axes) <= scales.squeeze() * 0.5001).all()
    assert (stored["kernel/int8"][5] == 0).all()
    np.testing.assert_array_equal(stored["few"], whole["few"])
    assert "product" not in stored
    assert {entry.key: entry.value for entry in smaller.metadata_props} == {"character": "a\nb"}
    assert np.abs(computed(model) - computed(smaller)).max() < 0.05 * np.abs(computed(model)).max()


def test_weights_that_are_rounded_already_change_nothing(model: onnx.ModelProto) -> None:
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    whole, small = values_of(model), values_of(quantize(model, products=False))
    for tensor in rounded.graph.initializer:
        if f"{tensor.name}/int8" in small:
            values = small[f"{tensor.name}/int8"] * small[f"{tensor.name}/scale"]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        else:
            np.testing.assert_array_equal(numpy_helper.to_array(tensor), whole[tensor.name])
    expected = computed(rounded)
    assert np.abs(computed(quantize(rounded, products=False)) - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.abs(computed(quantize(rounded, products=True)) - expected).max() > 1e-4 * np.abs(expected).max()


def test_small_file_is_read_and_measured(exported: Exported, words: list[ComparisonWord]) -> None:
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
    assert "## 8-bit weights\n\n- student.int8.onnx (products and weights in 8 bits, onnxruntime): " in card
    assert int8_file("onnx") in exported.files


def test_more_changed_words_than_allowed_leave_nothing(
    exported: Exported, words: list[ComparisonWord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damage(model: onnx.ModelProto, products: bool) -> onnx.ModelProto:
        smaller = quantize(model, products)
        name = next(node.input[2] for node in smaller.graph.node if node.op_type == "Conv" and len(node.input) == 3)
        bias = next(tensor for tensor in smaller.graph.initializer if tensor.name == name)
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 3, name))
        return smaller

    monkeypatch.setattr(int8, "quantize", damage)
    for name in ("student.onnx", "config.json"):
        (tmp_path / name).write_bytes((exported.folder / name).read_bytes())
    with pytest.raises(ParityError, match=r"24 words change .* more than the 0.5% of --int8-limit"):
        int8.write_int8(make("ctc"), tmp_path, ["onnx"], words, 0.5)


def test_what_cannot_be_measured_or_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["--student", "tiny-free", "--out", str(tmp_path / "out"), "--int8"]
    crops = ["--verify", str(tmp_path)]
    for arguments, message in (
        (["--target", "onnx"], "--int8 is measured on real words"),
        (crops, "add --onnx or --target"),
        (["--target", "opencv", *crops], "opencv runs no 8-bit weights"),
        (["--target", "onnx", *crops, "--int8-limit", "101"], "101 won't do; give a number from 0 to 100"),
        (["--target", "onnx", "--words", "20"], "--words says how many of --verify; add --verify"),
    ):
        assert main([*start, *arguments]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="measured on real words"):
        save_folder(make("ctc"), tmp_path / "out", Card("mini"), int8_limit=1)
    assert not list(tmp_path.iterdir())


def test_weights_in_8_bits_alone_where_products_change_too_much(
    exported: Exported, words: list[ComparisonWord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def check(*arguments: object) -> Int8Check:
        asked.append(arguments[-1])
        return dataclasses.replace(check_int8(*arguments), changed=24 if arguments[-1] else 0)  # type: ignore[arg-type]

    monkeypatch.setattr(int8, "check_int8", check)
    (tmp_path / "student.onnx").write_bytes((exported.folder / "student.onnx").read_bytes())
    (done,) = int8.write_int8(make("ctc"), tmp_path, ["onnx"], words, 0.5)
    assert asked == [True, False]
    assert not done.products
    assert "(weights in 8 bits, onnxruntime)" in str(done)
    names = {node.op_type for node in onnx.load(tmp_path / int8_file("onnx")).graph.node}
    assert not {"MatMulInteger", "DynamicQuantizeLinear", "DequantizeLinear"} & names


def test_a_rounded_reader_reads_alike_in_8_bits(words: list[ComparisonWord], tmp_path: Path) -> None:
    made = save_folder(
        make("ctc"), tmp_path / "out", Card("mini"), targets=["onnx"], words=words, int8_limit=100, round_weights=True
    )
    before, after = (one.state_dict() for one in (make("ctc"), load_reader(str(tmp_path / "out"))))
    assert any(not torch.equal(before[name], after[name]) for name in before), "the folder's own weights are rounded"
    assert "M weights rounded to 8 bits: " in str(made.int8[0])
    assert "rounded to 8 bits" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="measured on real words"):
        save_folder(make("ctc"), tmp_path / "other", Card("mini"), round_weights=True)
