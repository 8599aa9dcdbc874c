"""Teachers that read: aligned rows, distributions that are the reader's own, and what is left out where it can't be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from students.charset import Charset
from students.parseq import Parseq, ParseqConfig
from students.student import Student, StudentConfig
from teachers import load_teacher
from teachers.clip import ClipTeacher
from teachers.columns import CtcReaderTeacher
from teachers.reading import ParseqTeacher, StudentTeacher

LABELS = ["cat", "a1", "parkin"]


def small_student(charset: str = "36", max_length: int = 8, size: tuple[int, int] = (32, 128)) -> Student:
    config = StudentConfig(
        charset=Charset.load(charset).characters, max_length=max_length, image_size=size, encoder="conv",
        stem=(8, 8, 16), width=32, depth=4, heads=2, mlp_ratio=2.0, decoder_depth=3, decoder_heads=2,
        decoder_mlp_ratio=2.0, taps="even",
    )  # fmt: skip
    return Student(config)


def small_parseq(charset: str = "36", depth: int = 4) -> Parseq:
    return Parseq(
        ParseqConfig(
            charset=Charset.load(charset).characters, max_length=8, patch=(8, 16), width=32, depth=depth, heads=2,
            mlp_ratio=2.0, decoder_depth=2, decoder_heads=2, decoder_mlp_ratio=2.0,
        )
    )  # fmt: skip


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 32, 128) * 2 - 1


def test_a_students_guidance_is_its_stages(images: torch.Tensor) -> None:
    student = small_student()
    guidance = StudentTeacher("small", student)(images, LABELS)
    stages = student.stages(images, student.charset.encode(LABELS))
    for k in range(3):
        torch.testing.assert_close(guidance.image[k], stages.encoder[k])  # type: ignore[index]
        torch.testing.assert_close(guidance.text[k], stages.decoder[k])  # type: ignore[index]
    torch.testing.assert_close(guidance.word, stages.word)
    torch.testing.assert_close(guidance.characters, stages.logits.log_softmax(dim=-1))
    assert guidance.mask.sum(dim=1).tolist() == [4, 3, 7]


def test_its_shape_is_that_of_its_guidance(images: torch.Tensor) -> None:
    for teacher in (StudentTeacher("small", small_student("94")), ParseqTeacher("parseq", small_parseq("94"))):
        shape, guidance = teacher.shape, teacher(images, LABELS)
        assert guidance.image is not None
        assert guidance.image[0].shape == (3, shape.image_tokens, shape.image_width)
        assert (0 if guidance.text is None else guidance.text[2].shape[2]) == shape.text_width
        assert (0 if guidance.word is None else guidance.word.shape[1]) == shape.joint_width
        assert guidance.characters is not None
        assert guidance.characters.shape == (3, 7, 95)
        assert shape.charset == Charset.load("94")


def test_a_parseq_gives_the_logits_of_its_greedy_reading(images: torch.Tensor) -> None:
    """Teacher-forced on its own greedy reading, a reader gives the logits of that reading."""
    parseq = small_parseq()
    with torch.no_grad():
        for weight in parseq.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
        parseq.head.bias[parseq.charset.end_id] -= 50  # a reading that never ends
    teacher = ParseqTeacher("parseq", parseq)
    greedy = parseq.greedy(parseq.memory_keys(parseq.encode(images)), 6, stop=False)
    letters = greedy.argmax(dim=-1)
    labels = ["".join(parseq.charset.characters[number - 1] for number in row[:5]) for row in letters.tolist()]
    characters = teacher(images, labels).characters
    torch.testing.assert_close(characters, greedy.log_softmax(dim=-1), rtol=1e-4, atol=1e-5)


def test_a_parseq_has_patches_but_no_text(images: torch.Tensor) -> None:
    teacher = ParseqTeacher("parseq", small_parseq())
    guidance = teacher(images, LABELS)
    assert (guidance.text, guidance.word) == (None, None)
    assert (teacher.shape.image_tokens, teacher.shape.text_width, teacher.shape.joint_width) == (32, 0, 0)
    block = teacher.reader.encoder.blocks[3]
    seen = []
    block.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    torch.testing.assert_close(teacher(images, LABELS).image[2], seen[0])  # type: ignore[index]


def test_a_shallow_parseq_guides_by_its_logits_alone(images: torch.Tensor) -> None:
    teacher = ParseqTeacher("parseq", small_parseq(depth=2))
    guidance = teacher(images, LABELS)
    assert guidance.image is None
    assert teacher.shape.image_width == 0
    assert "too shallow" in teacher.description
    assert guidance.characters is not None


def test_labels_are_spelt_as_far_as_the_reader_can(images: torch.Tensor) -> None:
    teacher = StudentTeacher("small", small_student("36", max_length=6))
    labels = ["It's", "Hotel", "parking", "cellar-7"]
    assert [teacher.spell(label) for label in labels] == ["it", "hotel", "parkin", "cellar"]
    guidance = teacher(torch.cat([images, images[:1]]), labels)
    assert guidance.mask.shape == (4, 9)
    assert guidance.mask.sum(dim=1).tolist() == [2, 6, 6, 6], "the end is known of Hotel only"
    assert guidance.characters is not None
    assert guidance.text is not None
    assert guidance.characters.shape[:2] == guidance.text[0].shape[:2] == (4, 9)


def test_words_beside_it_change_nothing(images: torch.Tensor) -> None:
    teacher = StudentTeacher("small", small_student())
    together, alone = teacher(images, LABELS), teacher(images[1:2], LABELS[1:2])
    torch.testing.assert_close(together.characters[1:2, :3], alone.characters)  # type: ignore[index]
    torch.testing.assert_close(together.text[0][1:2, :3], alone.text[0])  # type: ignore[index]


def test_pictures_are_brought_to_its_size(images: torch.Tensor) -> None:
    teacher = StudentTeacher("wide", small_student(size=(32, 160)))
    assert teacher(images, LABELS).image[0].shape[1] == 41  # type: ignore[index]
    assert len(teacher.read_batch(images)) == 3
    smooth = torch.linspace(-1, 1, 128).expand(1, 3, 32, 128)
    assert teacher.fit(smooth).shape == (1, 3, 32, 160)
    middle = teacher.fit(smooth)[0, 0, 0, 40:120]
    torch.testing.assert_close(middle, torch.linspace(-1, 1, 160)[40:120], atol=0.01, rtol=0)


@pytest.mark.parametrize("kind", ["student", "parseq"])
def test_it_is_frozen_and_stays_in_eval_mode(kind: str, images: torch.Tensor) -> None:
    teacher = StudentTeacher("a", small_student()) if kind == "student" else ParseqTeacher("b", small_parseq())
    guidance = teacher.train()(images.clone().requires_grad_(), LABELS)
    assert not any(part.training for part in teacher.modules())
    assert not any(weight.requires_grad for weight in teacher.parameters())
    assert guidance.characters is not None
    assert not guidance.characters.requires_grad


def test_the_kind_follows_from_name_and_folder(tmp_path: Path) -> None:
    small_student().save_pretrained(tmp_path / "run" / "student")
    small_parseq().save_pretrained(tmp_path / "parseq")
    for name, kind, called in (
        ("tiny", CtcReaderTeacher, "tiny"),
        (str(tmp_path / "run" / "student"), StudentTeacher, "run"),
        (str(tmp_path / "parseq"), ParseqTeacher, "parseq"),
    ):
        teacher = load_teacher(name)
        assert type(teacher) is kind
        assert teacher.name == called
    assert type(load_teacher("words-small")) is ClipTeacher
