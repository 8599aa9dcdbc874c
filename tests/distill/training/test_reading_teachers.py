"""Distillation by teachers that read, and by several teachers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.data.batch import Batch
from distill.schema import Config, TeacherConfig
from distill.training.building import build_student, build_task
from distill.training.distillation import DistillationTask
from distill.training.layer_map import layer_map
from distill.training.permuted import build_parseq
from distill.training.sections import (
    AuxSection,
    GuidanceSection,
    LossSection,
    ScheduleSection,
    StudentSection,
    TeacherSection,
)
from distill.training.teacher_run import train_teacher
from distill.training.teacher_sections import ParseqSection
from distill.training.trainer import check_gradients
from losses.kd import dkd_loss, kd_loss
from students.charset import Charset
from students.ctc import CtcReader, Learner, learner
from students.errors import UserError
from students.parseq import Parseq, ParseqConfig
from students.student import Student, StudentConfig
from teachers.clip import ClipTeacher
from teachers.columns import CtcReaderTeacher
from teachers.guidance import Guidance
from teachers.reading import ParseqTeacher, StudentTeacher

FEATURES = ["bridge", "linguistic1", "linguistic2", "linguistic3", "visual1", "visual2", "visual3"]


def other_student(charset: str = "94") -> Student:
    """A student of other sizes than the one that learns."""
    config = StudentConfig(
        charset=Charset.load(charset).characters, encoder="vit", patch=(8, 16), width=48, depth=4, heads=2,
        decoder_depth=4, decoder_heads=2, decoder_mlp_ratio=2.0,
    )  # fmt: skip
    return Student(config)


def parseq(charset: str = "36", depth: int = 4) -> Parseq:
    return Parseq(
        ParseqConfig(
            charset=Charset.load(charset).characters, patch=(8, 16), width=32, depth=depth, heads=2, decoder_heads=2
        )
    )


@pytest.fixture
def batch() -> Batch:
    labels = ["cat", "a1", "parking", "x"]
    return Batch(torch.rand(4, 3, 32, 128) * 2 - 1, labels, torch.full((4, 32), -1), torch.arange(4))


def make(
    student: Learner, teachers: Any, weights: list[float] | None = None, losses: Any = None, **guidance: Any
) -> DistillationTask:
    torch.manual_seed(1)
    aux = AuxSection(columns=0)
    sections = None if weights is None else [TeacherSection(weight=weight) for weight in weights]
    return DistillationTask(student, teachers, GuidanceSection(**guidance), aux, sections=sections, losses=losses)


def terms_of(task: DistillationTask, batch: Batch, progress: float = 0.0) -> dict[str, Tensor]:
    return task(task.prepare(batch, 0, progress))


def test_a_student_teaches_all_its_stages_and_what_it_reads(student: Student, batch: Batch) -> None:
    task = make(student, StudentTeacher("big", other_student()), kd=2.0, dkd=0.5, temperature=2.0)
    terms = terms_of(task, batch)
    assert sorted(terms) == sorted(["characters", "ctc", *FEATURES, "kd", "dkd"])
    task.total(terms).backward()
    check_gradients(task)
    inputs = task.prepare(batch, 0, 0.0)
    stages, guidance = student.stages(batch.images, inputs.target_ids), inputs.guidance[0]
    alphabet, rows = task.branches[0].alphabet, guidance.mask
    assert alphabet is not None
    own, target = alphabet.student_scores(stages.logits[rows]), alphabet.teacher_scores(guidance.characters[rows])  # type: ignore[index]
    targets = inputs.target_ids[:, 1:][rows]
    torch.testing.assert_close(terms["kd"], 2.0 * kd_loss(own, target, 2.0))
    torch.testing.assert_close(terms["dkd"], 0.5 * dkd_loss(own, target, targets, 2.0))


def test_its_logits_are_left_out_unless_asked_for(student: Student, batch: Batch) -> None:
    task = make(student, StudentTeacher("big", other_student()))
    assert sorted(terms_of(task, batch)) == sorted(["characters", "ctc", *FEATURES])


def test_characters_that_are_lost_are_reported(student: Student) -> None:
    (line,) = make(student, StudentTeacher("big", other_student("94"))).warnings()
    assert line.startswith("teacher big: its probabilities of !")
    assert "upper and lower case count as one" in line
    assert make(student, StudentTeacher("big", other_student("36"))).warnings() == []


def test_a_parseq_has_no_text_to_guide_by(student: Student, batch: Batch) -> None:
    task = make(student, ParseqTeacher("parseq", parseq()), kd=1.0)
    terms = terms_of(task, batch)
    assert sorted(terms) == ["characters", "ctc", "kd", "visual1", "visual2", "visual3"]
    task.total(terms).backward()
    check_gradients(task)
    cells = [list(column.cells) for column in layer_map(task, batch).columns]
    assert cells[0] == ["visual1", "visual2", "visual3", "kd"]
    assert (cells[4][0], cells[5][0]) == ("4x32x32", "128")
    assert (cells[4][3], cells[5][3]) == ("4x8x37", str(4 + 3 + 8 + 2))


def test_a_teacher_without_stages_needs_its_logits_asked_for(student: Student, batch: Batch) -> None:
    shallow = ParseqTeacher("parseq", parseq(depth=2))
    with pytest.raises(UserError, match=r"parseq has no stages.*guidance\.kd"):
        make(student, shallow)
    task = make(student, shallow, dkd=1.0)
    assert sorted(terms_of(task, batch)) == ["characters", "ctc", "dkd"]
    assert not list(task.heads.parameters())


def test_a_clip_does_not_read(student: Student, teacher: ClipTeacher) -> None:
    with pytest.raises(UserError, match=r"guidance\.kd needs a teacher that reads, and teacher does not"):
        make(student, teacher, kd=1.0)
    task = make(student, [teacher, ParseqTeacher("parseq", parseq())], kd=1.0)
    assert [list(branch.losses) for branch in task.branches] == [
        ["bridge", "linguistic", "visual"], ["visual", "kd"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [({"weights": [-1.0]}, "weight of -1.0")],
)
def test_impossible_weights_are_refused(student: Student, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(student, [StudentTeacher("big", other_student())], **change)


def test_alphabets_without_a_common_character(student: Student) -> None:
    foreign = Student(dataclasses.replace(other_student().config, charset="!?"))
    with pytest.raises(UserError, match="no character in common"):
        make(student, StudentTeacher("foreign", foreign))


def test_several_teachers_are_named_apart_and_weighed(student: Student, teacher: ClipTeacher, batch: Batch) -> None:
    big, reads = StudentTeacher("big", other_student()), ParseqTeacher("big", parseq())
    task = make(student, [teacher, big, reads], [1.0, 0.5, 0.0], kd=1.0)
    terms = terms_of(task, batch)
    expected = {f"teacher/{name}" for name in FEATURES} | {f"big/{name}" for name in [*FEATURES, "kd"]}
    assert set(terms) == expected | {"characters", "ctc"}, "a teacher that weighs nothing isn't asked"
    assert {"heads.2.", "heads.2-"} <= set(task.unused_parameters())
    alone = make(student, big, kd=1.0)
    alone.branches[0].heads.load_state_dict(task.branches[1].heads.state_dict())
    own = terms_of(alone, batch)
    for name in [*FEATURES, "kd"]:
        torch.testing.assert_close(terms[f"big/{name}"], 0.5 * own[name])
    task.total(terms).backward()
    check_gradients(task)
    assert {name.split(".")[0] for name in task.state_dict()} == {"student", "heads"}
    assert set(make(student, teacher).state_dict()) <= set(task.state_dict())


def test_a_schedule_moves_a_term_and_may_leave_steps_unguided(student: Student, batch: Batch) -> None:
    schedules = {"kd": ScheduleSection(warmup=0.5), "visual": ScheduleSection(until=0.5)}
    weights = {"linguistic": 0.0, "bridge": 0.0, "kd": 1.0, "schedules": schedules}
    task = make(student, ParseqTeacher("parseq", parseq()), **weights)
    whole, half = terms_of(task, batch, 0.5)["kd"], terms_of(task, batch, 0.25)["kd"]
    torch.testing.assert_close(half, whole / 2)
    assert "kd" not in terms_of(task, batch, 0.0)
    assert "visual2" in terms_of(task, batch, 0.25)
    assert "visual2" not in terms_of(task, batch, 0.75), "what weighs nothing is not computed"
    assert "heads.0.align_proj." in task.unused_parameters()
    late = {"kd": ScheduleSection(until=0.5), "visual": ScheduleSection(until=0.5)}
    ends = make(student, ParseqTeacher("parseq", parseq()), **{**weights, "schedules": late})
    assert sorted(terms_of(ends, batch, 0.75)) == ["characters", "ctc"], "nobody asks the teacher any more"
    assert not make(student, ParseqTeacher("parseq", parseq())).find_unused_parameters()


def test_a_teacher_of_ones_own_needs_a_shape_and_a_name(student: Student, batch: Batch) -> None:
    class Own(StudentTeacher):
        def forward(self, images: Tensor, labels: Any) -> Guidance:
            return dataclasses.replace(super().forward(images, labels), text=None)

    own = Own("own", other_student())
    own.shape = dataclasses.replace(own.shape, text_width=0)
    assert sorted(terms_of(make(student, own), batch)) == [
        "bridge",
        "characters",
        "ctc",
        "visual1",
        "visual2",
        "visual3",
    ]


def test_what_a_student_reads_with_learns_from_characters(student: Student, batch: Batch) -> None:
    teacher, reads_columns = ParseqTeacher("parseq", parseq()), learner(student, "ctc")
    chosen = {"auto": ["kd_columns"], "columns": ["kd_columns"], "decoder": ["kd"], "both": ["kd", "kd_columns"]}
    for head, names in chosen.items():
        task = make(reads_columns, teacher, kd=1.0, kd_head=head, visual=0.0)
        terms = terms_of(task, batch)
        assert sorted(terms) == ["characters", "ctc", *names]
        assert all(term > 0 for term in terms.values())
        assert list(layer_map(task, batch).columns[0].cells) == names
        task.total(terms).backward()
        check_gradients(task)
    assert "kd" in terms_of(make(student, teacher, kd=1.0), batch), "one with a decoder"
    assert "dkd_columns" in terms_of(make(student, teacher, dkd=1.0, kd_head="columns"), batch), "its column head"
    plain = Student(dataclasses.replace(student.config, column_head=False))
    with pytest.raises(UserError, match=r"kd_head=both: the student has no columns"):
        make(plain, teacher, kd=1.0, kd_head="both")


def ctc_student(charset: str = "36") -> CtcReader:
    config = StudentConfig(
        charset=Charset.load(charset).characters, encoder="conv", stem=(8, 8, 8), width=32, depth=3, heads=2,
        decoder_depth=3, decoder_heads=2, column_head=True, taps="even", decoding="ctc",
    )  # fmt: skip
    return CtcReader(config)


def test_a_ctc_student_teaches_column_by_column(student: Student, teacher: ClipTeacher, batch: Batch) -> None:
    own, other = CtcReaderTeacher("own", ctc_student()), CtcReaderTeacher("other", ctc_student("94"))
    losses = {"column_kd": LossSection(0.5, options={"temperature": 2.0})}
    task = make(learner(student, "ctc"), [own, other, teacher], kd=1.0, losses=losses)
    terms = terms_of(task, batch)
    encoder = ["bridge", "visual1", "visual2", "visual3"]
    expected = {f"own/{name}" for name in [*encoder, "kd_columns", "column_kd"]}
    expected |= {f"other/{name}" for name in [*encoder, "kd_columns"]} | {f"teacher/{name}" for name in FEATURES}
    assert set(terms) == {"characters", "ctc", *expected}
    task.total(terms).backward()
    check_gradients(task)
    for one, message in (
        (other, "other has 32 columns over 94 characters, the student 32 over 36; take guidance.kd"),
        (teacher, "needs the columns of a teacher's guidance, and teacher has only image, text, word"),
    ):
        with pytest.raises(UserError, match=message):
            make(student, one, losses=losses)


def test_a_loaded_student_gets_another_alphabet(student: Student, tmp_path: Path) -> None:
    student.save_pretrained(tmp_path / "start")
    section = StudentSection(init=str(tmp_path / "start"), charset="94", max_length=30, remap=True)
    lines: list[str] = []
    built, again = build_student(section, 0, lines.append), build_student(section, 0)
    assert (len(built.charset.characters), built.max_length) == (94, 30)
    assert built.training
    torch.testing.assert_close(built.state_dict(), again.state_dict())
    assert "start for 94 characters: 36 characters keep their rows; new are !" in lines[0]
    with pytest.raises(UserError, match="remap=true"):
        build_student(dataclasses.replace(section, remap=False), 0)


@pytest.mark.parametrize("remapped", [True, False])
def test_a_teacher_to_start_from_gets_another_alphabet_when_asked(remapped: bool, tmp_path: Path) -> None:
    parseq().save_pretrained(tmp_path / "start")
    config = TeacherConfig(kind="parseq", init=str(tmp_path / "start"), remap=remapped)
    lines: list[str] = []
    reader = build_parseq(config, lines.append).reader
    assert len(reader.charset.characters) == (94 if remapped else 36)
    (line,) = lines
    assert ("characters: " in line) if remapped else line.endswith("for parseq.charset=94 set remap=true")
    assert reader.training


def test_what_a_loaded_student_does_not_take(student: Student, tmp_path: Path) -> None:
    student.save_pretrained(tmp_path / "start")
    lines: list[str] = []
    build_student(StudentSection(init=str(tmp_path / "start")), 0, lines.append)
    assert lines == []
    build_student(StudentSection(init=str(tmp_path / "start"), size="paper"), 0, lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("student.size=paper has no effect")


def test_what_a_loaded_teacher_does_not_take(tmp_path: Path) -> None:
    reader = parseq()
    reader.save_pretrained(tmp_path / "start")
    lines: list[str] = []

    def start(**asked: Any) -> Parseq:
        config = TeacherConfig(kind="parseq", init=str(tmp_path / "start"), parseq=ParseqSection(**asked))
        return build_parseq(config, lines.append).reader

    start(charset="36", max_length=reader.max_length, width=reader.config.width, depth=reader.config.depth)
    assert lines == []
    assert start(size="tiny", width=640, decoding="nar").config == reader.config
    assert lines == [
        "the teacher of init keeps its 36 characters; for parseq.charset=94 set remap=true",
        "without effect, since the teacher of init keeps what it has: parseq.size=tiny, parseq.width=640, "
        "parseq.decoding=nar",
    ]
    with pytest.raises(UserError, match=r"parseq\.charset=62: the teacher of init has 36 characters; set remap=true"):
        start(charset="62")
    with pytest.raises(UserError, match=rf"max_length=40: .* words of up to {reader.max_length}; set remap=true"):
        start(max_length=40)


@pytest.mark.parametrize("config", [TeacherConfig(kind="parseq"), TeacherConfig(kind="clip", init="words-small")])
def test_what_can_not_be_remapped(config: TeacherConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="set init, or leave remap out"):
        train_teacher(dataclasses.replace(config, remap=True, out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_teachers_of_a_configuration(student: Student, material: Path, tmp_path: Path) -> None:
    other_student().save_pretrained(tmp_path / "big")
    config = Config(student=StudentSection(width=32, depth=4))
    config.teacher.name = str(tmp_path / "big")
    alone = build_task(config)
    assert [type(each) for each in alone.teachers] == [StudentTeacher]
    config.teachers = [
        dataclasses.replace(config.teacher, name=str(material / "teacher"), weight=0.5),
        dataclasses.replace(config.teacher, kind="student"),
    ]
    lines: list[str] = []
    both = build_task(config, lines.append)
    assert lines == [f"teacher.name={config.teacher.name} has no effect beside teachers, which take its place"]
    assert [(branch.prefix, branch.weight) for branch in both.branches] == [("teacher/", 0.5), ("big/", 1.0)]
    assert both.labeller is both.teachers[1]
    torch.testing.assert_close(both.student.state_dict(), alone.student.state_dict(), rtol=0, atol=0)
