"""A CLIP4STR as one ONNX file: both branches, the text tower and its captions agree with PyTorch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distill.deployment.crossed import CrossBeginning, Crossing, CrossRefinement, Opening, Spelling
from distill.deployment.onnx import export_onnx
from distill.deployment.parts import Refinements, paired
from distill.deployment.reader import OnnxReader
from students.charset import CHARSETS
from students.errors import UserError
from teachers.backbones import ClipSizes
from teachers.clip4str import Clip4Str
from teachers.clip4str_config import Clip4StrConfig

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
        {"refine_iters": 2, "seed": 6, "decoder_depth": 2, "share_dim": False, "pooled": True},
        {"decoding": "nar", "refine_iters": 2, "share_dim": False},
        {"language": False},
        {"language": False, "decoding": "nar"},
    ],
    ids=["ar", "refined", "pooled", "nar", "visual", "visual nar"],
)
def test_it_agrees_with_pytorch_at_every_length_and_batch(changed: dict[str, Any], tmp_path: Path) -> None:
    reader = make(**changed)
    export_onnx(reader, tmp_path / "student.onnx")
    exported = OnnxReader(tmp_path / "student.onnx", threads=1)
    images = pictures(reader, 24)
    steps, captions = set(), set()
    for batch in (*images[:16].split(1), images[16:19], images[19:]):
        with torch.no_grad():
            passes = list(reader.passes(batch))
        steps.add(passes[0].visual.shape[1])
        captions.update(caption for each in passes for caption in each.captions)
        found, expected = exported.logits(batch.numpy()), passes[-1].logits.numpy()
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=5e-4)
    if reader.config.decoding == "ar":
        assert len(steps) > 2, "words of several lengths"
    assert len(captions) > 5 or not reader.config.language
    stored = onnx.load(tmp_path / "student.onnx").graph.initializer
    weights = sum(np.prod(tensor.dims) for tensor in stored if tensor.data_type == onnx.TensorProto.FLOAT)
    assert weights < 1.02 * reader.parameters_count, "each weight is kept once"


def caption(crossing: Crossing, logits: Tensor) -> Tensor:
    ids, merging = Spelling(crossing.captions)(logits), crossing.captions.merging
    assert merging is not None
    for _ in range(logits.shape[1] - 1):
        ids = merging(ids)[1]
    return ids


@pytest.mark.parametrize("decoder_depth", [1, 2])
def test_the_parts_give_what_the_reader_gives(decoder_depth: int) -> None:
    reader = make(decoder_depth=decoder_depth, refine_iters=2)
    decoder, cross = reader.visual_decoder, reader.cross_decoder
    assert cross is not None
    crossing, refining = Crossing(reader, cross), Refinements(decoder, 1)
    lengths = set()
    for image in pictures(reader, 16).split(1):
        with torch.no_grad():
            passes = list(reader.passes(image))
            _, memory, seen = Opening(reader, crossing)(image)
            visual, read = passes[0].visual, passes[0].cross
            assert read is not None
            steps = decoder.steps(None)
            filled = F.pad(visual, (0, 0, 0, steps - visual.shape[1]))
            _, joined = CrossBeginning(crossing)(caption(crossing, filled), seen)
            greedy = cross.greedy(paired(joined), visual.shape[1], stop=False)
            refined = F.pad(read[:, :-1], (0, 0, 0, steps - read.shape[1] + 1))
            for _ in range(2):
                filled = refining(filled, memory)
                refined = CrossRefinement(crossing)(refined, caption(crossing, filled), seen)
        lengths.add(visual.shape[1])
        torch.testing.assert_close(greedy, read, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(refined, passes[-1].logits, rtol=1e-4, atol=1e-5)
    assert len(lengths) > 2, "words of several lengths"


def test_weights_that_no_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reader = make()
    monkeypatch.setattr("distill.deployment.onnx.MOST_BYTES", 4 * reader.parameters_count - 1)
    with pytest.raises(UserError, match="don't fit an ONNX file"):
        export_onnx(reader, tmp_path / "student.onnx")
    assert not list(tmp_path.iterdir())


def test_captions_that_need_the_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave --onnx out"):
        export_onnx(make(charset=CHARSETS["94"], caption_charset=CHARSETS["94"]), tmp_path / "student.onnx")
    assert not list(tmp_path.iterdir())
