"""Another alphabet or longest word: rows move with their characters, all else stays, new rows are reported."""

from __future__ import annotations

import string

import pytest
import torch
from torch import Tensor

from students.charset import Charset
from students.errors import UserError
from students.parseq import Parseq, ParseqConfig
from students.reading import Reader
from students.remap import remap
from students.student import Student
from students.two_stream import CharacterDecoder
from teachers.clip4str import Clip4Str, Clip4StrConfig
from teachers.small import SmallTeacherConfig

OLD = "0aHb"
CLIP = SmallTeacherConfig(
    stem=(8, 8, 16), image_width=32, image_layers=3, image_heads=2, text_width=16, text_layers=3, text_heads=2,
    joint_width=16,
)  # fmt: skip


def decoders(reader: Reader) -> list[CharacterDecoder]:
    return [part for part in reader.modules() if isinstance(part, CharacterDecoder)]


@pytest.fixture(scope="module", params=["parseq", "clip4str"])
def reader(request: pytest.FixtureRequest) -> Reader:
    torch.manual_seed(0)
    if request.param == "parseq":
        sizes = {"width": 32, "depth": 2, "heads": 2, "patch": (16, 32), "decoder_depth": 2, "decoder_heads": 2}
        return Parseq(ParseqConfig(charset=OLD, max_length=6, **sizes)).eval()  # type: ignore[arg-type]
    return Clip4Str(Clip4StrConfig(charset=OLD, max_length=6, clip=CLIP, decoder_heads=2, context=12)).eval()


def test_the_same_again_is_the_same(student: Student) -> None:
    remapped, report = remap(student, student.charset, student.max_length)
    torch.testing.assert_close(remapped.state_dict(), student.state_dict(), rtol=0, atol=0)
    assert (report.new, report.cased, report.dropped) == ("", "", "")
    assert report.describe() == "36 characters keep their rows"
    assert not remapped.training


def test_another_order_reads_the_same_words(student: Student, images: Tensor) -> None:
    remapped, _ = remap(student, Charset(student.charset.characters[::-1]), student.max_length)
    assert [reading.text for reading in remapped.read_batch(images)] == [r.text for r in student.read_batch(images)]
    logits, before = remapped(images, 8), student(images, 8)
    torch.testing.assert_close(logits[..., 1:].flip(-1), before[..., 1:])
    torch.testing.assert_close(logits[..., 0], before[..., 0])
    columns = [each.stages(images, each.charset.encode(["ab"] * 6)).columns for each in (remapped, student)]
    torch.testing.assert_close(columns[0][..., 1:].flip(-1), columns[1][..., 1:])  # type: ignore[index]


def test_more_characters_and_longer_words(student: Student, images: Tensor) -> None:
    wider = Charset.load("94")
    remapped, report = remap(student, wider, 12)
    assert report.new == string.punctuation
    assert report.cased == string.ascii_uppercase
    assert (report.unchanged, report.dropped, report.longest) == (36, "", (8, 12))
    description = report.describe()
    assert "36 characters keep" in description
    assert f"new are {string.punctuation}" in description
    assert "positions 10 to 13 are new" in description
    words = ["ab1", "x", "street7", "a", "b", "c"]
    after = remapped.stages(images, remapped.charset.encode(words)).logits
    before = student.stages(images, student.charset.encode(words)).logits
    old_classes = [0, *(wider.ids[char] for char in student.charset.characters)]
    torch.testing.assert_close(after[..., old_classes], before)
    small, capital = wider.ids["k"], wider.ids["K"]
    assert torch.equal(after[..., small], after[..., capital]), "until it learns better"
    assert remapped.config.max_length == remapped.max_length == 12
    assert remapped.image_size == student.image_size
    assert student.config.charset == Charset.load("36").characters, "the old one stays as it was"


def test_every_row_moves_with_its_character(reader: Reader) -> None:
    remapped, report = remap(reader, Charset("b?h0"), 4)
    assert (report.new, report.cased, report.dropped) == ("?", "h", "a")
    assert report.describe().endswith("gone are a; positions 6 to 7 are gone")
    assert len(decoders(remapped)) == len(decoders(reader)) == (2 if isinstance(reader, Clip4Str) else 1)
    for new, old in zip(decoders(remapped), decoders(reader), strict=True):
        rows, before = new.text_embed.embedding.weight, old.text_embed.embedding.weight
        assert torch.equal(rows[[0, 1, 3, 4]], before[[0, 4, 3, 1]])
        assert torch.equal(rows[[new.charset.start_id, new.charset.pad_id]], before[[5, 6]])
        assert torch.equal(new.head.weight[[0, 1, 3, 4]], old.head.weight[[0, 4, 3, 1]])
        assert torch.equal(new.head.bias[[0, 1, 3, 4]], old.head.bias[[0, 4, 3, 1]])
        assert torch.equal(new.pos_queries, old.pos_queries[:, :5])
        assert 0.005 < float(rows[2].detach().std()) < 0.04, "a new row starts as any does"
    changed = ("text_embed.embedding.weight", "head.weight", "head.bias", "pos_queries")
    stays = {name: rows for name, rows in reader.state_dict().items() if not name.endswith(changed)}
    assert len(stays) > 20
    torch.testing.assert_close({name: remapped.state_dict()[name] for name in stays}, stays, rtol=0, atol=0)


def test_it_reads_the_same_words(reader: Reader) -> None:
    images = torch.rand(3, 3, *reader.image_size) * 2 - 1
    remapped, _ = remap(reader, Charset("bH0a"), 6)
    assert [word.text for word in remapped.read_batch(images)] == [word.text for word in reader.read_batch(images)]


def test_a_longest_word_of_nothing_is_refused(student: Student) -> None:
    with pytest.raises(UserError, match="longest word"):
        remap(student, student.charset, 0)
