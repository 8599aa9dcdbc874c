from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill.deployment.readers import ModelReader, OnnxWordReader, WordReader, open_reader
from distill.evaluation.lexicon import LexiconReader
from distill.evaluation.teachers import teacher_reader
from students.charset import Charset
from students.errors import UserError
from students.parseq import Parseq, ParseqConfig
from teachers import Teacher, load_teacher
from teachers.clip4str import Clip4Str, Clip4StrConfig
from teachers.small import SmallTeacher, SmallTeacherConfig
from tests.distill.conftest import Learned

CLIP = SmallTeacherConfig(
    stem=(8, 8, 16), image_width=32, image_layers=4, image_heads=2, text_width=16, text_layers=4, text_heads=2,
    joint_width=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A folder of each kind of teacher, with random weights."""
    root = tmp_path_factory.mktemp("teachers")
    Parseq(
        ParseqConfig(charset="0123abc", width=32, depth=2, heads=2, patch=(16, 32), decoder_heads=2, max_length=9)
    ).save_pretrained(root / "parseq")
    Clip4Str(Clip4StrConfig(clip=CLIP, decoder_heads=2, context=12)).save_pretrained(root / "clip4str")
    SmallTeacher(CLIP).save(root / "clip", "card")
    return {kind: str(root / kind) for kind in ("parseq", "clip4str", "clip")}


@pytest.mark.parametrize(("kind", "charset"), [("parseq", "0123abc"), ("clip4str", Clip4StrConfig.charset)])
def test_a_teacher_that_reads_is_scored_openly(kind: str, charset: str, folders: dict[str, str]) -> None:
    reader = open_reader(folders[kind], "teacher", charset=Charset.load("36"), lexicon=["word"])
    assert isinstance(reader, WordReader)
    assert (reader.name, reader.role, reader.reading) == (kind, "teacher", "open")
    assert reader.charset == charset
    readings = reader.read_batch(torch.zeros(2, 3, *reader.image_size))
    assert all(set(reading.text) <= set(charset) for reading in readings)


def test_a_raw_clip_is_scored_by_lexicon(folders: dict[str, str]) -> None:
    reader = open_reader(folders["clip"], "teacher", charset=Charset.load("36"))
    assert (reader.name, reader.role, reader.reading) == ("clip", "teacher", "closed-lexicon")
    fixed = open_reader(folders["clip"], "teacher", None, Charset.load("36"), ["one", "two"])
    assert isinstance(fixed, LexiconReader)
    assert fixed.words == ("one", "two")


def test_an_onnx_file_is_a_teacher_that_reads(onnx_file: Path, learned: Learned) -> None:
    reader = open_reader(str(onnx_file), "teacher", 1, Charset.load("36"))
    assert isinstance(reader, OnnxWordReader)
    assert (reader.role, reader.reading) == ("teacher", "open")
    assert [reading.text for reading in reader.read_batch(learned.images)] == learned.words


def test_teachers_of_a_run_take_part_as_what_they_are(folders: dict[str, str]) -> None:
    charset = Charset.load("36")
    opened = teacher_reader(load_teacher(folders["parseq"]), charset)
    assert isinstance(opened, ModelReader)
    assert (opened.name, opened.role, opened.reading) == ("parseq", "teacher", "open")
    assert teacher_reader(load_teacher(folders["clip"]), charset).reading == "closed-lexicon"

    class Codebook(Teacher):
        def forward(self, images: torch.Tensor, labels: object) -> None:  # type: ignore[override]
            pass

    with pytest.raises(UserError, match="codes can neither read nor choose"):
        teacher_reader(Codebook("codes"), charset)
