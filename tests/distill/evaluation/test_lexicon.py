from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from distill.deployment.readers import WordReader
from distill.evaluation.lexicon import ClosedReader, LexiconReader, NearestWordReader, read_lexicon
from students.charset import Charset
from students.errors import UserError
from teachers import load_teacher
from teachers.clip import ClipTeacher
from teachers.small import SmallTeacher

from .conftest import FakeReader, FakeTeacher


def images(*levels: int) -> torch.Tensor:
    return (torch.tensor(levels).float() / 255 * 2 - 1).view(-1, 1, 1, 1).expand(-1, 3, 32, 128)


def pictures_of(*levels: int) -> list[Image.Image]:
    return [Image.new("RGB", (40, 20), (level, level, level)) for level in levels]


def test_the_nearest_word_is_chosen(charset: Charset) -> None:
    reader = LexiconReader(FakeTeacher({"cat": 3, "dog": 7}), charset, ["cat", "dog", "cat"])
    assert isinstance(reader, WordReader)
    assert reader.words == ("cat", "dog")
    readings = reader.choose(images(7, 3))
    assert [reading.text for reading in readings] == ["dog", "cat"]
    assert readings[0].confidence == pytest.approx(1.0)


def test_a_given_lexicon_is_kept_for_every_set(charset: Charset) -> None:
    teacher = FakeTeacher({"cat": 3, "dog": 7})
    fixed = LexiconReader(teacher, charset, ["cat"])
    assert fixed.over(["dog"]).words == ("cat",)
    free = LexiconReader(teacher, charset)
    assert free.over(["dog"]).words == ("dog",)
    with pytest.raises(RuntimeError, match="no lexicon yet"):
        free.choose(images(3))


def test_a_real_teacher_gives_words_of_its_lexicon(charset: Charset) -> None:
    teacher = ClipTeacher.from_model("small", SmallTeacher().eval())
    reader = LexiconReader(teacher, charset, ["cat", "dog", "bird"])
    pictures = torch.rand(3, 3, 32, 128) * 2 - 1
    actual = [reader.words.index(reading.text) for reading in reader.choose(pictures)]
    similarities = teacher.embed_images(pictures) @ teacher.embed_words(reader.words).T
    assert actual == similarities.argmax(dim=1).tolist()
    assert reader.params == sum(weight.numel() for weight in teacher.parameters()) > 1_000_000


def test_words_without_tokens_are_no_part_of_a_sets_lexicon() -> None:
    teacher = ClipTeacher.from_model("small", SmallTeacher().eval())
    reader = LexiconReader(teacher, Charset("abcdefghijklmnopqrstuvwxyzü"))
    assert reader.charset == "abcdefghijklmnopqrstuvwxyz"
    assert reader.over(["für", "cat", "süd"]).words == ("cat",)
    (reading,) = reader.over(["für"]).choose(images(3))
    assert (reading.text, reading.confidence) == ("", 0.0)
    with pytest.raises(UserError, match="'für'"):
        LexiconReader(teacher, Charset("für"), ["für"])


def test_a_lexicon_file_goes_through_the_label_rules(tmp_path: Path, charset: Charset) -> None:
    file = tmp_path / "words.txt"
    file.write_text("Cat\n\n dog \ncat\n!!!\ncafé\n", encoding="utf-8")
    assert read_lexicon(file, charset) == (["cat", "dog", "cafe"], {"empty": 1, "repeated": 1})
    file.write_text("cat\n###\nelephant\n", encoding="utf-8")
    assert read_lexicon(file, charset, max_length=5) == (["cat"], {"illegible": 1, "too long": 1})


def test_an_open_reader_can_be_made_to_choose(charset: Charset) -> None:
    opened = FakeReader("reader", {0: "C-at", 1: "dgo", 2: ""})
    reader = NearestWordReader(opened, charset)
    assert isinstance(reader, ClosedReader)
    assert (reader.name, reader.role, reader.reading) == ("reader + lexicon", "student", "closed-lexicon")
    with pytest.raises(RuntimeError, match="no lexicon yet"):
        reader.read_pictures(pictures_of(0))
    chosen = reader.over(["bird", "cat", "dog"])
    assert [reading.text for reading in chosen.read_pictures(pictures_of(0, 1, 2))] == ["cat", "dog", "bird"]
    assert chosen.place("cpu", 1).words == ("bird", "cat", "dog")
    assert reader.place("cpu", 1).over(["cat"]).words == ("cat",)
    fixed = NearestWordReader(opened, charset, ["dog"])
    assert fixed.place("cpu", 1).over(["cat"]).words == ("dog",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n!\n", "has no word"),
        (b"\xff\xfe\x00", "no UTF-8"),
        (None, "No such"),
        (b"a.png street\n", "looks like a label file"),
        (b"street, road, avenue\n", "looks like several words"),
    ],
)
def test_a_bad_lexicon_file_is_refused(tmp_path: Path, charset: Charset, content: bytes | None, message: str) -> None:
    file = tmp_path / "words.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_lexicon(file, charset)


def test_counts_behind_a_tab_are_no_part_of_a_word(tmp_path: Path, charset: Charset) -> None:
    (tmp_path / "words.tsv").write_text("street\t30\nmuseum\t5\n")
    assert read_lexicon(tmp_path / "words.tsv", charset)[0] == ["street", "museum"]


def test_words_that_a_caseless_teacher_cannot_tell_apart_are_known() -> None:
    reader = LexiconReader(load_teacher("words-small"), Charset.load("94"), ["STREET", "street", "Open", "museum"])
    assert reader.indistinct == {"street"}


def test_words_far_apart_in_a_large_lexicon_are_equal_to_the_last_bit() -> None:
    words = [f"w{number}" for number in range(1500)]
    reader = LexiconReader(
        load_teacher("words-small"), Charset.load("94"), ["OPEN", *words, "averylongwordindeed", "open"]
    )
    assert reader.indistinct == {"open"}
