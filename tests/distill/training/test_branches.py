"""Losses of users in a task, and words that a teacher can't take."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from distill.data.batch import Batch
from distill.schema import Config
from distill.training.branches import join_terms
from distill.training.building import build_task
from distill.training.distillation import DistillationTask
from distill.training.layer_map import layer_map
from distill.training.sections import AuxSection, GuidanceSection, StudentSection, TeacherSection
from distill.training.term_weights import LossSection
from distill.training.trainer import check_gradients
from losses import registry
from losses.registry import LOSSES, register_loss
from students.charset import Charset
from students.errors import UserError
from students.parseq import Parseq, ParseqConfig
from students.stages import Stages, StudentShape
from students.student import Student
from teachers.clip import ClipTeacher
from teachers.guidance import Guidance, TeacherShape
from teachers.reading import ParseqTeacher

LABELS = ["cat", "grün", "parking", "straße"]
GERMAN = Charset("0123456789abcdefghijklmnopqrstuvwxyzäöüß")


@pytest.fixture(autouse=True)
def own_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "LOSSES", LOSSES.copy())

    @register_loss("gap", needs=("word",))
    def gap(stages: Stages, guidance: Guidance, power: float = 2.0) -> Tensor:
        assert guidance.word is not None
        return (stages.word.mean() - guidance.word.mean()).abs() ** power

    @register_loss("flat")
    def flat(stages: Stages) -> Tensor:
        return stages.logits.square().mean()

    @register_loss("mapped", needs=("image",))
    class Mapped(nn.Module):
        def __init__(self, student: StudentShape, teacher: TeacherShape) -> None:
            super().__init__()
            self.map = nn.Linear(student.width, teacher.image_width)

        def forward(self, stages: Stages, guidance: Guidance) -> Tensor:
            assert guidance.image is not None
            return (self.map(stages.encoder[2]).mean(dim=1) - guidance.image[2].mean(dim=1)).square().mean()


def batch(labels: list[str]) -> Batch:
    pictures = torch.rand(len(labels), 3, 32, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Batch(pictures, labels, torch.full((len(labels), 32), -1), torch.arange(len(labels)))


def make(student: Student, teachers: object, losses: dict[str, LossSection], **guidance: float) -> DistillationTask:
    torch.manual_seed(1)
    sections = GuidanceSection(**guidance)  # type: ignore[arg-type]
    return DistillationTask(student, teachers, sections, AuxSection(columns=0), losses=losses)  # type: ignore[arg-type]


def reads(charset: str = "36", depth: int = 4) -> ParseqTeacher:
    characters = Charset.load(charset).characters
    config = ParseqConfig(characters, patch=(8, 16), width=32, depth=depth, heads=2, decoder_heads=2)
    return ParseqTeacher("parseq", Parseq(config))


def test_a_users_losses_are_terms_with_weight_schedule_and_options(student: Student, teacher: ClipTeacher) -> None:
    losses = {
        "gap": LossSection(0.5, warmup=0.5, options={"power": 1.0}), "flat": LossSection(2.0), "mapped": LossSection(),
    }  # fmt: skip
    task, words = make(student, teacher, losses, interval=2), batch(["cat", "a1"])
    inputs = task.prepare(words, 0, 0.25)
    terms = task(inputs)
    stages, guidance = student.stages(words.images, inputs.target_ids), inputs.guidance[0]
    assert guidance is not None
    torch.testing.assert_close(terms["gap"], 0.25 * (stages.word.mean() - guidance.word.mean()).abs())  # type: ignore[union-attr]
    torch.testing.assert_close(terms["flat"], 2 * stages.logits.square().mean())
    task.total(terms).backward()
    check_gradients(task)
    assert {"heads.0-mapped.map.weight", "heads.0.word_embed.0.weight"} <= {name for name, _ in task.named_parameters()}
    assert "heads.0-mapped." in task.unused_parameters(), "not every step is guided"
    between = task(task.prepare(words, 1, 0.25))
    assert sorted(between) == ["characters", "ctc", "flat"]
    assert list(layer_map(task, words).columns[0].cells)[-2:] == ["gap", "mapped"]


def test_a_loss_asks_for_the_parts_it_needs_alone(student: Student, teacher: ClipTeacher) -> None:
    task = make(student, teacher, {"mapped": LossSection()}, linguistic=0, visual=0, bridge=0)
    (guidance,) = task.prepare(batch(["cat"]), 0, 0.0).guidance
    assert guidance is not None
    assert (guidance.image is not None, guidance.text, guidance.word) == (True, None, None)


def test_without_a_teacher_only_losses_that_need_none_run(student: Student) -> None:
    task = make(student, None, {"gap": LossSection(), "flat": LossSection()})
    assert sorted(task(task.prepare(batch(["cat"]), 0, 0.0))) == ["characters", "ctc", "flat"]
    assert task.warnings() == ["losses.gap needs a teacher, and there is none: left out"]


def test_a_loss_that_no_teacher_has_the_parts_for_is_refused(student: Student, teacher: ClipTeacher) -> None:
    with pytest.raises(UserError, match=r"losses\.gap needs the word of a teacher's guidance, and parseq has only ch"):
        make(student, reads(), {"gap": LossSection()})
    both = make(student, [reads(), teacher], {"gap": LossSection()})
    assert [("gap" in branch.losses) for branch in both.branches] == [False, True]
    for losses, message in (
        ({"kd": LossSection()}, r"weight of kd is guidance\.kd"),
        ({"nothing": LossSection()}, "no loss is called 'nothing'"),
        ({"gap": LossSection(options={"powr": 1})}, "no option 'powr'"),
    ):
        with pytest.raises(UserError, match=message):
            make(student, teacher, losses)


def german(student: Student) -> Student:
    return Student(dataclasses.replace(student.config, charset=GERMAN.characters)).eval()


def test_words_without_tokens_learn_from_their_labels_alone(student: Student, teacher: ClipTeacher) -> None:
    reader = german(student)
    task = make(reader, teacher, {"gap": LossSection()})
    (line,) = task.warnings()
    assert line == "teacher teacher has no token for ä ö ü ß: words with them learn without it"
    words = batch(LABELS)
    inputs = task.prepare(words, 0, 0.0)
    terms = task(inputs)
    assert inputs.guided[0] is not None
    assert inputs.guided[0].tolist() == [0, 2]
    own = task(task.prepare(words.select([0, 2], ["cat", "parking"]), 0, 0.0))
    for name in ("gap", "bridge", "linguistic1", "visual3"):
        torch.testing.assert_close(terms[name], own[name], rtol=1e-4, atol=1e-5)
    assert terms["characters"] != own["characters"]
    task.total(terms).backward()
    check_gradients(task)
    layer_map(task, words)


def test_a_batch_without_a_word_for_the_teacher_is_unguided(student: Student, teacher: ClipTeacher) -> None:
    task = make(german(student), teacher, {})
    terms = task(task.prepare(batch(["grün", "süß"]), 0, 0.0))
    assert {name: term.item() for name, term in terms.items() if name not in ("characters", "ctc")} == dict.fromkeys(
        ("bridge", "linguistic1", "linguistic2", "linguistic3", "visual1", "visual2", "visual3"), 0.0
    )
    task.total(terms).backward()
    check_gradients(task)


def test_a_teacher_for_shorter_words_is_refused_before_the_first_step() -> None:
    config = Config(student=StudentSection(max_length=40), teacher=TeacherSection(name="words-small"))
    with pytest.raises(UserError, match=r"student\.max_length=40: teacher words-small takes labels of up to 25"):
        build_task(config)
    config.teacher.name = "tiny"
    assert build_task(config).student.max_length == 40


def test_terms_of_one_name_are_refused() -> None:
    terms = join_terms({"first": torch.ones(())}, {"second": torch.zeros(())}, "losses.near")
    assert list(terms) == ["first", "second"]
    with pytest.raises(UserError, match=r"losses\.far gives a term 'first', which there is already"):
        join_terms(terms, {"first": torch.ones(())}, "losses.far")
