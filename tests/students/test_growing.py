from __future__ import annotations

import dataclasses

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


def test_a_wider_reader_takes_the_stem(reader: CtcReader) -> None:
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
