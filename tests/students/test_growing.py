from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from students.charset import Charset
from students.ctc import CtcReader
from students.errors import UserError
from students.growing import grow
from students.student import Student, tiny

PICTURES = torch.rand(2, 3, 32, 128, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def reader() -> CtcReader:
    torch.manual_seed(0)
    return CtcReader(dataclasses.replace(tiny(Charset("abc"), 5), decoding="ctc", depth=3)).eval()


def test_a_deeper_reader_reads_as_before(reader: CtcReader) -> None:
    config = dataclasses.replace(reader.config, depth=5, stem_blocks=(2, 3))
    grown, growth = grow(reader, config)
    assert len(grown.encoder.blocks) == 5
    torch.testing.assert_close(grown(PICTURES), reader(PICTURES), atol=1e-5, rtol=0)
    assert growth.identities == (
        "encoder.stem.1.more.0", "encoder.stem.2.more.0", "encoder.stem.2.more.1", "encoder.blocks.3",
        "encoder.blocks.4",
    )  # fmt: skip
    assert growth.new == ()
    assert growth.kept == sum(values.numel() for values in reader.state_dict().values())


def test_new_parts_learn(reader: CtcReader) -> None:
    grown, _ = grow(reader, dataclasses.replace(reader.config, depth=4, stem_blocks=(2, 1)))
    grown.train()(PICTURES).square().sum().backward()
    block, convolution = grown.encoder.blocks[3], grown.encoder.stem[1].more[0].conv
    for weight in (block.attn.proj.weight, block.mlp.fc2.weight, convolution.bn.weight):
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize("changed", [{"stem": (40, 80, 160)}, {"mlp_ratio": 4.0}, {"stem": (32, 96, 128), "depth": 4}])
def test_new_channels_are_not_read_at_first(reader: CtcReader, changed: dict[str, Any]) -> None:
    grown, growth = grow(reader, dataclasses.replace(reader.config, **changed))
    torch.testing.assert_close(grown(PICTURES), reader(PICTURES), atol=1e-5, rtol=0)
    assert growth.new == ()
    assert growth.kept == sum(values.numel() for values in reader.state_dict().values())
    assert growth.total > growth.kept


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_a_wider_reader_reads_nearly_as_before(keep_aspect: bool) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(tiny(Charset("abc"), 5), decoding="ctc", depth=3, keep_aspect=keep_aspect)
    reader = CtcReader(config).eval()
    with torch.no_grad():  # tokens as far apart as a trained reader's, next to which new channels hold little
        reader.encoder.collapse.weight.mul_(100)  # type: ignore[union-attr,operator]
    grown, growth = grow(reader, dataclasses.replace(config, width=288, heads=9, depth=4))
    before, after = reader(PICTURES), grown(PICTURES)
    assert (after - before).square().mean().sqrt() < 0.05 * before.std()
    assert growth.widened == (
        *("encoder.cls_token", "encoder.pos_embed")[: 1 if keep_aspect else 2], "encoder.collapse",
        *(("encoder.position",) if keep_aspect else ()), "encoder.blocks", "encoder.norm", "column_head.weight",
    )  # fmt: skip
    assert growth.identities == ("encoder.blocks.3",)
    assert growth.new == ()
    assert "made wider are encoder.cls_token" in growth.describe()
    grown.train()(PICTURES).square().sum().backward()
    for name, weight in grown.encoder.blocks[1].named_parameters():
        assert weight.grad is not None
        assert weight.dim() == 1 or weight.grad[..., 192:].abs().sum() > 0, f"{name} learns to read new channels"


def test_heads_of_another_size_are_drawn_anew(reader: CtcReader) -> None:
    _, growth = grow(reader, dataclasses.replace(reader.config, width=288, heads=6))
    assert growth.widened == ()
    assert "encoder.blocks" in growth.new


def test_a_narrower_reader_takes_the_stem(reader: CtcReader) -> None:
    grown, growth = grow(reader, dataclasses.replace(reader.config, width=96))
    assert growth.identities == ()
    assert set(growth.new) == {
        "encoder.cls_token", "encoder.pos_embed", "encoder.collapse", "encoder.blocks", "encoder.norm",
        "column_head.weight",
    }  # fmt: skip
    torch.testing.assert_close(grown.encoder.stem.state_dict(), reader.encoder.stem.state_dict())


def test_a_shallower_reader_takes_the_first_blocks(reader: CtcReader) -> None:
    deep, _ = grow(reader, dataclasses.replace(reader.config, depth=5))
    shallow, growth = grow(deep, reader.config)
    assert (growth.kept, growth.new) == (growth.total, ())
    torch.testing.assert_close(shallow.state_dict(), reader.state_dict())


def test_decoder_layers_are_drawn_anew() -> None:
    student = Student(dataclasses.replace(tiny(Charset("abc"), 5), decoder_depth=3))
    _, growth = grow(student, dataclasses.replace(student.config, decoder_depth=4))
    assert growth.new == ("decoder.layers",)
    assert "drawn anew are decoder.layers" in growth.describe()


def test_sizes_that_do_not_serve(reader: CtcReader) -> None:
    with pytest.raises(UserError, match="depth 1 can't carry"):
        grow(reader, dataclasses.replace(reader.config, depth=1))
