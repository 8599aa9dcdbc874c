"""Whatever reads is opened by one function, behind one protocol: models, ONNX files, CLIPs with a lexicon."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.readers import ModelReader, WordReader, open_model
from distill.evaluation.lexicon import LexiconReader, open_teacher, teacher_reader
from students.charset import Charset
from students.errors import UserError
from students.parseq import Parseq, ParseqConfig
from students.student import Student, StudentConfig
from teachers import Teacher, load_teacher
from teachers.clip4str import Clip4Str, Clip4StrConfig
from teachers.small import SmallTeacher, SmallTeacherConfig
from tests.distill.conftest import Learned

CLIP = SmallTeacherConfig(
    stem=(8, 8, 16), image_width=32, image_layers=4, image_heads=2, text_width=16, text_layers=4, text_heads=2,
    joint_width=16,
)  # fmt: skip


def test_folder_and_onnx_read_alike(learned: Learned, onnx_file: Path, tmp_path: Path) -> None:
    learned.student.save_pretrained(tmp_path / "mine" / "student")
    student = open_model(str(tmp_path / "mine" / "student"))
    onnx = open_model(str(onnx_file), role="baseline", threads=1)
    assert isinstance(student, WordReader)
    assert isinstance(onnx, WordReader)
    assert student.name == "mine", "a run's student goes by the run's name"
    assert (student.role, onnx.role) == ("student", "baseline")
    assert student.params == onnx.params
    assert student.charset == onnx.charset
    for reader in (student, onnx):
        assert [reading.text for reading in reader.read_pictures(learned.pictures)] == learned.words
    assert onnx.place("cpu", 1) is onnx
    other = onnx.place("cpu", 2)
    assert isinstance(other, ModelReader)
    assert isinstance(other.model, OnnxReader)
    assert (other.model.threads, other.name, other.role) == (2, onnx.name, "baseline")


def test_a_reader_in_memory_is_wrapped(learned: Learned, onnx_file: Path, tmp_path: Path) -> None:
    learned.student.save_pretrained(tmp_path / "mine")
    loaded, exported = Student.from_pretrained(tmp_path / "mine"), OnnxReader(onnx_file, threads=1)
    names = [ModelReader(reader).name for reader in (learned.student, loaded, exported)]
    assert names == ["student", "mine", "mini"]
    wrapped = ModelReader(exported, "other", "baseline")
    assert (wrapped.name, wrapped.role) == ("other", "baseline")
    assert wrapped.model is exported, "the file is opened once"


def test_reading_leaves_a_student_in_training() -> None:
    config = StudentConfig(
        encoder="conv", stem=(8, 8, 16), width=32, depth=3, heads=2, decoder_depth=3, decoder_heads=2, dropout=0.5,
        taps="even",
    )  # fmt: skip
    student = Student(config).train()
    reader = ModelReader(student, "loop")
    first, second = (reader.read_pictures([Image.new("RGB", (128, 32))]) for _ in range(2))
    assert first == second, "dropout must be off"
    assert student.training


def test_a_shipped_name_is_that_reader_whatever_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").touch()
    assert open_model("tiny").name == "tiny"


@pytest.mark.parametrize("name", ["no-such-student", "no-such.onnx"])
def test_a_reader_that_is_not_there(name: str) -> None:
    with pytest.raises(UserError, match=name):
        open_model(name)


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
    reader = open_teacher(folders[kind], Charset.load("36"), ["word"])
    assert isinstance(reader, WordReader)
    assert (reader.name, reader.role, reader.reading) == (kind, "teacher", "open")
    assert reader.charset == charset
    readings = reader.read_pictures([Image.new("RGB", (90, 30))] * 2)
    assert all(set(reading.text) <= set(charset) for reading in readings)


def test_a_raw_clip_is_scored_by_lexicon(folders: dict[str, str]) -> None:
    reader = open_teacher(folders["clip"], Charset.load("36"))
    assert (reader.name, reader.role, reader.reading) == ("clip", "teacher", "closed-lexicon")
    fixed = open_teacher(folders["clip"], Charset.load("36"), ["one", "two"])
    assert isinstance(fixed, LexiconReader)
    assert fixed.words == ("one", "two")


def test_an_onnx_file_is_a_teacher_that_reads(onnx_file: Path, learned: Learned) -> None:
    reader = open_teacher(str(onnx_file), Charset.load("36"), threads=1)
    assert isinstance(reader, ModelReader)
    assert isinstance(reader.model, OnnxReader)
    assert (reader.role, reader.reading) == ("teacher", "open")
    assert [reading.text for reading in reader.read_pictures(learned.pictures)] == learned.words


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
