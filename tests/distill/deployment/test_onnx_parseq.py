"""PARSeq as ONNX: a Loop with refinements after it, or all positions at once; no traced size is frozen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from distill.deployment.onnx_export import export_onnx
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.parity import check_parity
from students.parseq import Parseq, ParseqConfig
from students.reading import Decoding


def make(decoder_depth: int, seed: int) -> Parseq:
    """Random weights some way from their start: it reads words of different lengths."""
    torch.manual_seed(seed)
    config = ParseqConfig(
        charset="0123456789abcd", max_length=9, patch=(8, 16), width=32, depth=1, heads=2, mlp_ratio=2.0,
        decoder_depth=decoder_depth, decoder_heads=2, decoder_mlp_ratio=2.0, dropout=0.1,
    )  # fmt: skip
    parseq = Parseq(config)
    with torch.no_grad():
        for weight in parseq.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
        parseq.head.bias[parseq.charset.end_id] += 1
    return parseq.eval()


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(1)
    return torch.nn.functional.interpolate(torch.rand(40, 3, 4, 16) * 2 - 1, (32, 128))


def exported(parseq: Parseq, folder: Path, decoding: Decoding, refine_iters: int) -> OnnxReader:
    parseq.choose_decoding(decoding, refine_iters)
    export_onnx(parseq, folder / "student.onnx")
    return OnnxReader(folder / "student.onnx", threads=1)


def by_steps(parseq: Parseq, images: Tensor) -> dict[int, Tensor]:
    """Sort pictures by the steps that reading each alone takes."""
    parseq.choose_decoding("ar", 0)
    with torch.no_grad():
        steps = [parseq(image[None]).shape[1] for image in images]
    return {taken: images[[number for number, own in enumerate(steps) if own == taken]] for taken in sorted(set(steps))}


@pytest.mark.parametrize(("layers", "seed", "refine_iters"), [(1, 4, 1), pytest.param(2, 2, 2, marks=pytest.mark.slow)])
def test_refinements_follow_a_greedy_reading_of_any_length(
    layers: int, seed: int, refine_iters: int, images: Tensor, tmp_path: Path
) -> None:
    parseq = make(layers, seed)
    sorted_images = by_steps(parseq, images)
    assert len(sorted_images) > 3
    assert min(sorted_images) == 1, "one that ends at once, so that the refinement's context is the start alone"
    assert max(sorted_images) == 10, "one that never ends"
    reader = exported(parseq, tmp_path, "ar", refine_iters)
    for chosen in sorted_images.values():
        with torch.no_grad():
            expected = parseq(chosen).numpy()
        actual = reader.logits(chosen.numpy())
        assert actual.shape == expected.shape == (len(chosen), 10, 15)
        np.testing.assert_allclose(actual, expected, atol=5e-4)
    parity = check_parity(parseq, reader, images, batches=(1, 2, 5, 13))
    assert parity.agrees, parity
    model = onnx.load(tmp_path / "student.onnx")
    weights = sum(np.prod(tensor.dims) for tensor in model.graph.initializer if tensor.data_type == 1)
    assert weights < 1.1 * parseq.parameters_count, "each weight is kept once"


@pytest.mark.slow
def test_nar_needs_no_loop(images: Tensor, tmp_path: Path) -> None:
    parseq = make(2, 2)
    reader = exported(parseq, tmp_path, "nar", 1)
    assert not [node for node in onnx.load(tmp_path / "student.onnx").graph.node if node.op_type == "Loop"]
    for batch in (1, 2, 7):
        with torch.no_grad():
            expected = parseq(images[:batch]).numpy()
        np.testing.assert_allclose(reader.logits(images[:batch].numpy()), expected, atol=5e-4)
