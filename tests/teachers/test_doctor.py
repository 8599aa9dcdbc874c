from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from students.charset import CHARSETS, Charset
from students.errors import UserError
from teachers import registry
from teachers.clip4str import Clip4Str, Clip4StrConfig
from teachers.doctor import examine, examine_reader, examine_tokens
from teachers.guidance import Guidance, TeacherShape
from teachers.small import SmallTeacher, SmallTeacherConfig
from teachers.teacher import Teacher
from teachers.tokens import CharacterTokens

SMALLEST = SmallTeacherConfig(
    characters="0123456789abcdeABCDE", max_length=7, stem=(8, 8, 16), image_width=32, image_layers=4, image_heads=2,
    text_width=32, text_layers=4, text_heads=2, joint_width=16,
)  # fmt: skip


def fail(*_: object, **__: object) -> str:
    raise OSError("no network")


def test_clips_tokenizer_folds_case_and_splits_other_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teachers.zoo.fetch", fail)
    report = examine("ViT-B-16", Charset(CHARSETS["94"] + "½ﬁñ中\u2019é"))
    assert report.unguided == {"½": "stands for '1\u20442'", "ﬁ": "stands for 'fi'", "ñ": "2 tokens", "中": "2 tokens"}
    assert len(report.same) == 27
    assert {"aA", "zZ", "'\u2019"} <= set(report.same)
    assert report.longest == 75
    assert report.untaught[0] == "words with ½ ﬁ ñ 中: it takes no label with them"
    assert report.untaught[1].startswith("the case of a b c")
    assert report.untaught[2:] == ["' \u2019 apart: they get the same guidance"]
    assert examine("ViT-B-16/openai", Charset.load("36")).untaught == []


def test_german_letters_are_examined_one_by_one() -> None:
    alphabet = Charset(CHARSETS["36"] + "äöüß")
    report = examine("words-small", alphabet)
    assert report.unguided == dict.fromkeys("äöüß", "no token")
    assert report.untaught == ["words with ä ö ü ß: it takes no label with them"]


def test_a_vocabulary_of_characters_has_what_it_has() -> None:
    report = examine_tokens("one", "", Charset("abcABC1"), CharacterTokens("abAB1", 9))
    assert report.unguided == {"c": "no token", "C": "no token"}
    assert (report.same, report.longest) == ((), 9)
    assert examine_tokens("two", "", Charset("aAbB"), CharacterTokens("ab", 9)).same == ("aA", "bB")


def test_a_folder_of_a_clip_is_examined(tmp_path: Path) -> None:
    SmallTeacher(SMALLEST).save(tmp_path / "cased", "card")
    report = examine(str(tmp_path / "cased"), Charset("0123abcABCxX"))
    assert report.teacher == "cased"
    assert report.untaught == [
        "words with x X: it takes no label with them",
        "words of more than 7 characters: it takes no longer ones",
    ]


def test_names_that_stand_for_nothing() -> None:
    for name, message in (
        ("ViT-B-33", "unknown teacher"), ("ViT-B-32/nobody", "has no weights called"), ("RN50", "only CLIPs with"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            examine(name, Charset.load("94"))


def test_a_reader_is_bound_by_its_alphabet() -> None:
    report = examine_reader("mine", "a student", Charset("012aAx!"), Charset("0123abcX"), 12)
    assert (report.unguided, report.outside, report.same, report.longest) == ({}, "!", ("aA",), 12)
    assert report.untaught == [
        "the rest of a word from ! on: it can't read them",
        "the case of a: both cases get the same guidance",
        "words of more than 12 characters: it takes no longer ones",
    ]
    assert examine_reader("all", "a student", Charset.load("62"), Charset.load("94"), 25).untaught == []
    assert examine("tiny", Charset.load("36")).untaught == []


def crossed(**changed: Any) -> Clip4Str:
    sizes = {"charset": CHARSETS["94"], "max_length": 9, "clip": SMALLEST, "decoder_heads": 2, "context": 6}
    torch.manual_seed(0)
    return Clip4Str(Clip4StrConfig(**sizes | changed)).eval()  # type: ignore[arg-type]


def test_a_clip4str_is_bound_by_tokens_and_alphabet(tmp_path: Path) -> None:
    crossed().save_pretrained(tmp_path / "reader")
    report = examine(str(tmp_path / "reader"), Charset("019abexABX-½"))
    assert report.description.startswith("Clip4Str, 0.")
    # It reads both cases and so teaches them; words that its text tower can't take are not guided all the same.
    assert report.untaught == [
        "words with x X - ½: it takes no label with them",
        "words of more than 7 characters: it takes no longer ones",
    ]


def test_a_registered_teacher_says_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii(Teacher):
        longest_label = 10

        def accepts(self, label: str) -> bool:
            return label.isascii()

        def forward(self, images: Tensor, labels: Any) -> Guidance:
            raise NotImplementedError

    def make() -> Ascii:
        teacher = Ascii("ascii")
        teacher.shape = TeacherShape(joint_width=4)
        return teacher

    monkeypatch.setitem(registry.TEACHERS, "ascii", make)
    report = examine("ascii", Charset("abé"))
    assert (dict(report.unguided), report.longest) == ({"é": "refused by it"}, 10)
