"""A recogniser of another program guides by what its columns say of each character of a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distill.data.batch import Batch
from distill.deployment.readers import ModelReader
from distill.evaluation.lexicon import teacher_reader
from distill.training.distillation import DistillationTask
from distill.training.sections import AuxSection, GuidanceSection
from distill.training.trainer import check_gradients
from students.charset import Charset
from students.ctc import CtcLearner
from students.errors import UserError
from students.pictures import to_tensor
from students.student import Student, StudentConfig
from teachers import load_reader, load_teacher
from teachers.peer_teacher import PeerTeacher
from teachers.teacher import untrain
from tests.teachers.stripes import HEIGHT, draw, save_recogniser

CHARACTERS = "abcde"


@pytest.fixture
def teacher(tmp_path: Path) -> PeerTeacher:
    """A recogniser of stripes that has no width of its own."""
    save_recogniser(tmp_path / "rec.onnx", CHARACTERS, metadata={"character": "\n".join(CHARACTERS)})
    loaded = load_teacher(f"{tmp_path / 'rec.onnx'}:min_width=16", kind="peer")
    assert isinstance(loaded, PeerTeacher)
    return loaded


def picture_of(text: str, tmp_path: Path) -> Image.Image:
    shades = save_recogniser(tmp_path / "other.onnx", CHARACTERS)
    return draw(shades, [CHARACTERS.index(char) + 1 for char in text])


def test_it_speaks_for_each_character_of_a_label(teacher: PeerTeacher, tmp_path: Path) -> None:
    images = to_tensor([picture_of(word, tmp_path) for word in ("abba", "eddd")], (HEIGHT, 72))
    guidance = teacher(images, ["abba", "dxd"])
    assert guidance.mask.tolist() == [[True] * 4 + [False], [False] * 5], "x is no character of its own, nor is the end"
    assert guidance.characters is not None
    assert guidance.characters.shape == (2, 5, 6)
    best = guidance.characters[0, :4].exp().max(dim=1)
    assert best.indices.tolist() == [1, 2, 2, 1]
    assert best.values.min() > 0.99
    assert [reading.text for reading in teacher.read_batch(images)] == ["abba", "eddd"]


def test_its_columns_are_those_it_reads_by(teacher: PeerTeacher, tmp_path: Path) -> None:
    images = to_tensor([picture_of("bad", tmp_path)], (HEIGHT, 56))
    frames = teacher.frames(images)
    ((_, probabilities, _),) = teacher.reader.columns([picture_of("bad", tmp_path)])
    assert frames.log_probs.exp().numpy() == pytest.approx(teacher.reader.fold(probabilities), abs=1e-5)
    assert frames.lengths is not None
    assert frames.lengths.tolist() == [56]


def test_padding_on_the_right_of_a_picture_is_none_of_it(teacher: PeerTeacher, tmp_path: Path) -> None:
    short, long = (to_tensor([picture_of(word, tmp_path)], (HEIGHT, 16 * len(word) + 8)) for word in ("be", "decade"))
    together = torch.cat([torch.nn.functional.pad(short, (0, long.shape[3] - short.shape[3])), long])
    frames = teacher.frames(together)
    assert frames.lengths is not None
    assert frames.lengths.tolist() == [40, 104]
    assert torch.equal(frames.log_probs[0, :40], teacher.frames(short).log_probs[0])
    assert frames.log_probs[0, 40:].exp().sum(dim=1).tolist() == [1.0] * 64
    alone, padded = teacher(short, ["be"]), teacher(together, ["be", "decade"])
    assert alone.characters is not None
    assert padded.characters is not None
    assert torch.allclose(alone.characters[0, :2], padded.characters[0, :2], atol=1e-6)


def test_classes_of_one_character_are_added(tmp_path: Path) -> None:
    save_recogniser(tmp_path / "rec.onnx", "abc", blank="last", metadata={"character": "\u00c5\n\u212b\nab"})
    teacher = load_teacher(f"{tmp_path / 'rec.onnx'}:blank=last")
    assert isinstance(teacher, PeerTeacher)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), (2, 5))
    folded = teacher.reader.fold(probabilities)
    assert teacher.reader.charset.characters == "\u00c5"
    assert folded == pytest.approx(np.stack([probabilities[:, :, 3], probabilities[:, :, :2].sum(axis=2)], axis=2))


@pytest.mark.parametrize("decoding", ["ar", "ctc"])
def test_it_teaches_by_distributions(decoding: str, teacher: PeerTeacher, tmp_path: Path) -> None:
    config = StudentConfig(
        charset="abcdef", encoder="conv", stem=(8, 8, 16), width=32, depth=3, heads=2, decoder_depth=3, decoder_heads=2,
        taps="even", column_head=True, decoding=decoding,  # type: ignore[arg-type]
    )  # fmt: skip
    student = CtcLearner(config) if decoding == "ctc" else Student(config)
    task = DistillationTask(student, teacher, GuidanceSection(kd=1.0), AuxSection(columns=0))
    # These two look like the blank most: where pixels are mixed in resizing there is no third one between them.
    images = to_tensor([picture_of("bccb", tmp_path)] * 2)
    batch = Batch(images, ["bccb", "cafe"], torch.full((2, 32), -1), torch.arange(2))
    terms = task(task.prepare(batch, 0, 0.0))
    kd = "kd_columns" if decoding == "ctc" else "kd"
    assert sorted(terms) == ["characters", "ctc", kd]
    assert float(terms[kd].detach()) > 0
    task.total(terms).backward()
    check_gradients(task)
    assert any("it can't read f" in line for line in task.warnings())


def test_it_is_scored_on_pictures_as_they_are(teacher: PeerTeacher, tmp_path: Path) -> None:
    reader = teacher_reader(teacher, Charset.load("36"))
    assert isinstance(reader, ModelReader)
    assert (reader.name, reader.role) == ("rec", "teacher")
    assert reader.read_pictures([picture_of("decade" * 3, tmp_path)])[0].text == "decade" * 3


def test_what_it_can_not_be_used_for_is_refused(teacher: PeerTeacher, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rec has no weights to draw anew"):
        untrain(teacher, 0)
    with pytest.raises(UserError, match="is a reader of another program; leave"):
        load_teacher(str(tmp_path / "rec.onnx"), kind="parseq")
    with pytest.raises(UserError, match="neither trained nor exported"):
        load_reader("rapidocr")
