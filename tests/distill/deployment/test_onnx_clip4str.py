"""A CLIP4STR's visual branch as one ONNX file agrees with PyTorch; its cross branch is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from distill.deployment.onnx_export import export_onnx
from distill.deployment.onnx_reader import OnnxReader
from students.charset import CHARSETS
from students.errors import UserError
from teachers.backbones import ClipSizes
from teachers.clip4str import Clip4Str, Clip4StrConfig

CLIP = ClipSizes(
    embed_dim=16,
    vision_cfg={"width": 24, "layers": 2, "head_width": 12, "patch_size": 8, "image_size": 32},
    text_cfg={"width": 20, "layers": 2, "heads": 2, "context_length": 12, "vocab_size": 49408},
)
CONFIG = Clip4StrConfig(
    charset=CHARSETS["36"], caption_charset=CHARSETS["36"], max_length=5, clip=CLIP, decoder_heads=2, dropout=0.0,
    context=7,
)  # fmt: skip


def make(seed: int = 3, **changed: Any) -> Clip4Str:
    """A reader whose decoders are lively enough to read words of every length, each picture another."""
    torch.manual_seed(seed)
    reader = Clip4Str(dataclasses.replace(CONFIG, **changed)).eval()
    with torch.no_grad():
        for name, weight in reader.named_parameters():
            if "decoder" in name and "norm" not in name:
                weight.add_(torch.randn_like(weight) * 0.35)
        reader.clip_model.visual.proj.mul_(4)
        reader.visual_decoder.head.bias[reader.charset.end_id] += 2
    return reader


def pictures(reader: Clip4Str, count: int) -> Tensor:
    coarse = torch.rand(count, 3, 4, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, reader.image_size)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        {"refine_iters": 0, "decoder_depth": 2},
        {"refine_iters": 1},
        {"refine_iters": 2, "seed": 6, "decoder_depth": 2, "share_dim": False},
        {"decoding": "nar", "refine_iters": 2, "share_dim": False},
    ],
    ids=["ar", "refined", "wide", "nar"],
)
def test_the_visual_branch_agrees_with_pytorch_at_every_length_and_batch(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    reader = make(language=False, **changed)
    export_onnx(reader, tmp_path / "student.onnx")
    exported = OnnxReader(tmp_path / "student.onnx", threads=1)
    images = pictures(reader, 24)
    lengths = set()
    for batch in (*images[:16].split(1), images[16:19], images[19:]):
        with torch.no_grad():
            expected = reader(batch)
        lengths |= {len(reading.text) for reading in reader.readings(expected)}
        logits = exported.logits(batch.numpy())
        assert logits.shape == expected.shape
        np.testing.assert_allclose(logits, expected.numpy(), atol=5e-4)
    assert len(lengths) > 2, "words of several lengths"
    stored = onnx.load(tmp_path / "student.onnx").graph.initializer
    weights = sum(np.prod(tensor.dims) for tensor in stored if tensor.data_type == onnx.TensorProto.FLOAT)
    assert weights < 1.02 * reader.parameters_count, "each weight is stored once"


def test_weights_that_no_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reader = make(language=False)
    monkeypatch.setattr("distill.deployment.onnx_export.MAX_BYTES", 4 * reader.parameters_count - 1)
    with pytest.raises(UserError, match="don't fit an ONNX file"):
        export_onnx(reader, tmp_path / "student.onnx")
    assert not list(tmp_path.iterdir())


def test_a_cross_branch_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--visual-branch") as refused:
        export_onnx(make(), tmp_path / "student.onnx")
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())
