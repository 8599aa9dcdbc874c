from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from students.errors import UserError
from students.parseq import Parseq, ParseqConfig
from students.reading import Reader
from students.sizes import StudentConfig
from students.student import Student
from teachers.clip4str import Clip4Str
from teachers.clip4str_config import Clip4StrConfig
from teachers.readers import READERS, is_reader, load_reader
from teachers.small import SmallTeacher, SmallTeacherConfig

CLIP = SmallTeacherConfig(
    stem=(8, 8, 16), image_width=32, image_layers=4, image_heads=2, text_width=16, text_layers=4, text_heads=2,
    joint_width=16,
)  # fmt: skip


def make(kind: str) -> Reader:
    if kind == "student":
        sizes = {"width": 32, "depth": 3, "heads": 2, "stem": (8, 8, 16), "decoder_depth": 3, "decoder_heads": 2}
        return Student(StudentConfig(encoder="conv", taps="even", **sizes))  # type: ignore[arg-type]
    if kind == "parseq":
        small = {"width": 32, "depth": 2, "heads": 2, "patch": (16, 32), "decoder_heads": 2}
        return Parseq(ParseqConfig(**small))  # type: ignore[arg-type]
    return Clip4Str(Clip4StrConfig(clip=CLIP, decoder_heads=2, context=12))


@pytest.mark.parametrize("kind", ["student", "parseq", "clip4str"])
def test_a_folder_says_what_it_holds(kind: str, tmp_path: Path) -> None:
    reader = make(kind).eval()
    reader.save_pretrained(tmp_path / "reader")
    assert is_reader(tmp_path / "reader")
    again = load_reader(tmp_path / "reader")
    assert type(again) is type(reader) is READERS[reader.FORMAT]
    assert not again.training
    images = torch.rand(2, 3, *reader.image_size) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(again(images, 3), reader(images, 3))


def test_what_reads_is_told_from_what_does_not(tmp_path: Path) -> None:
    assert is_reader("tiny")
    assert isinstance(load_reader("tiny"), Student)
    SmallTeacher(CLIP).save(tmp_path / "clip", "card")
    (tmp_path / "empty").mkdir()
    for name in ("words-small", "ViT-B-16/openai", str(tmp_path / "clip"), str(tmp_path / "empty"), "nothing"):
        assert not is_reader(name)
    with pytest.raises(
        UserError, match="which is no reader's; give symdistill-student, symdistill-ctc, symdistill-parseq"
    ):
        load_reader(tmp_path / "clip")
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"width": 3}), encoding="utf-8")
    assert not is_reader(tmp_path / "empty")
    with pytest.raises(UserError, match="does not describe a reader"):
        load_reader(tmp_path / "empty")
