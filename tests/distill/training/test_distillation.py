"""The distillation task: which terms stand in which step, and that the teacher stays outside."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from distill.data.batch import Batch
from distill.schema import Config
from distill.training.building import build_student, build_task, build_teachers
from distill.training.distillation import (
    DistillationTask,
)
from distill.training.layer_map import gradient_shares, layer_map
from distill.training.sections import AuxSection, GuidanceSection, LossSection, StudentSection, TeacherSection
from distill.training.trainer import check_gradients
from losses.labels import ctc_fits, ctc_loss
from losses.symmetric import SymmetricOptions, symmetric_terms
from students.ctc import learner
from students.errors import UserError
from students.student import Student
from teachers.clip import ClipTeacher

GUIDANCE = ["bridge", "linguistic1", "linguistic2", "linguistic3", "visual1", "visual2", "visual3"]


@pytest.fixture
def batch() -> Batch:
    labels = ["cat", "a1", "parking", "x"]
    columns = torch.randint(0, 37, (4, 32))
    columns[1] = -1
    return Batch(torch.rand(4, 3, 32, 128) * 2 - 1, labels, columns, torch.arange(4))


def make(
    student: Student, teacher: ClipTeacher | None, aux: AuxSection | None = None, **guidance: object
) -> DistillationTask:
    return DistillationTask(student, teacher, GuidanceSection(**guidance), aux or AuxSection())  # type: ignore[arg-type]


def terms_of(task: DistillationTask, batch: Batch, step: int = 0, progress: float = 0.0) -> dict[str, torch.Tensor]:
    return task(task.prepare(batch, step, progress))


def test_the_terms_and_their_sum(student: Student, teacher: ClipTeacher, batch: Batch) -> None:
    task = make(student, teacher)
    terms = terms_of(task, batch)
    assert sorted(terms) == sorted(["characters", "ctc", "columns", *GUIDANCE])
    assert all(term.shape == () and bool(term.isfinite()) for term in terms.values())
    torch.testing.assert_close(task.total(terms), torch.stack(list(terms.values())).sum())


def test_every_weight_gets_a_gradient_but_the_teachers(student: Student, teacher: ClipTeacher, batch: Batch) -> None:
    task = make(student, teacher)
    assert not task.find_unused_parameters()
    task.total(terms_of(task, batch)).backward()
    check_gradients(task)
    assert all(weight.grad is None for weight in teacher.parameters())


def test_the_teacher_stays_outside(student: Student, teacher: ClipTeacher) -> None:
    task = make(student, teacher)
    assert {name.split(".")[0] for name, _ in task.named_parameters()} == {"student", "heads"}
    assert {name.split(".")[0] for name in task.state_dict()} == {"student", "heads"}
    assert not any(part is teacher for part in task.modules())
    task.train()
    assert student.training
    assert not teacher.training
    assert task.frozen is teacher
    assert task.exported_model() is student
    assert task.no_weight_decay() <= {name for name, _ in task.named_parameters()}


def test_the_teacher_goes_along_to_another_device_or_type(student: Student, teacher: ClipTeacher) -> None:
    make(student, teacher).to("meta")
    assert {weight.device.type for weight in teacher.parameters()} == {"meta"}


def test_a_baseline_learns_from_labels_alone(student: Student, teacher: ClipTeacher, batch: Batch) -> None:
    guided, baseline = make(student, teacher), make(student, None)
    assert not list(baseline.heads.parameters())
    assert baseline.frozen is None
    alone, beside = terms_of(baseline, batch), terms_of(guided, batch)
    assert sorted(alone) == ["characters", "columns", "ctc"]
    for name, term in alone.items():
        torch.testing.assert_close(term, beside[name])
    baseline.total(alone).backward()
    check_gradients(baseline)


def test_between_guided_steps_the_heads_rest(student: Student, teacher: ClipTeacher, batch: Batch) -> None:
    task = make(student, teacher, interval=3)
    guided = ["bridge" in terms_of(task, batch, step) for step in range(7)]
    assert guided == [True, False, False, True, False, False, True]
    assert task.find_unused_parameters()
    task.total(terms_of(task, batch, 1)).backward()
    check_gradients(task)
    assert all(weight.grad is None for weight in task.heads.parameters())


def test_guidance_is_weighted_by_kind(student: Student, teacher: ClipTeacher, batch: Batch) -> None:
    plain = terms_of(make(student, teacher), batch)
    task = make(student, teacher, linguistic=2.0, visual=0.5, bridge=0.0)
    task.heads.load_state_dict(make(student, teacher).heads.state_dict())
    weighted = terms_of(task, batch)
    assert "bridge" not in weighted, "what weighs nothing is not computed"
    assert weighted["characters"] == plain["characters"]
    own = symmetric_terms(
        student.stages(batch.images, student.charset.encode(batch.labels)), teacher(batch.images, batch.labels),
        task.branches[0].heads, SymmetricOptions(),
    )  # fmt: skip
    for k in "123":
        torch.testing.assert_close(weighted[f"linguistic{k}"], 2 * own[f"linguistic{k}"])
        torch.testing.assert_close(weighted[f"visual{k}"], 0.5 * own[f"visual{k}"])


def test_a_row_budget_draws_the_same_rows_for_a_step(student: Student, teacher: ClipTeacher, batch: Batch) -> None:
    student.eval()
    task = make(student, teacher, max_rows=8)
    first, again, later = (terms_of(task, batch, step) for step in (4, 4, 5))
    for name in GUIDANCE:
        assert torch.equal(first[name], again[name])
    assert not torch.equal(first["visual1"], later["visual1"])
    assert torch.equal(first["bridge"], later["bridge"]), "4 rows are within the budget"
    torch.manual_seed(99)
    assert torch.equal(terms_of(task, batch, 4)["visual1"], first["visual1"]), "whatever else draws random numbers"


def test_the_layer_map_counts_rows_with_and_without_padding(
    student: Student, teacher: ClipTeacher, batch: Batch
) -> None:
    whole, masked = (layer_map(make(student, teacher, include_padding=how), batch) for how in (True, False))
    rows = [list(table.columns[-1].cells) for table in (whole, masked)]
    assert rows[0][:3] == ["32"] * 3, "4 words, 8 positions"
    assert rows[1][:3] == [str(4 + 3 + 8 + 2)] * 3
    assert rows[0][3:] == rows[1][3:] == ["132"] * 3 + ["4"]


@pytest.mark.parametrize("include_padding", [False, True])
def test_padding_content_changes_no_loss_but_where_it_is_compared(
    include_padding: bool, student: Student, teacher: ClipTeacher, batch: Batch
) -> None:
    student.eval()
    task = make(student, teacher, include_padding=include_padding)
    inputs = task.prepare(batch, 0, 0.0)
    before = task(inputs)
    (guidance,) = inputs.guidance
    assert guidance is not None
    assert guidance.text is not None
    padding = ~guidance.mask
    assert int(padding.sum()) == 32 - (4 + 3 + 8 + 2)
    text = tuple(torch.where(padding[..., None], torch.randn_like(tap), tap) for tap in guidance.text)
    after = task(dataclasses.replace(inputs, guidance=(dataclasses.replace(guidance, text=text),)))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == ({"linguistic1", "linguistic2", "linguistic3"} if include_padding else set())


def test_a_layer_map_needs_a_teacher(student: Student, batch: Batch) -> None:
    with pytest.raises(ValueError, match="without a teacher"):
        layer_map(make(student, None), batch)


def test_gradient_shares_are_norms_over_their_sum(student: Student, batch: Batch) -> None:
    task = make(student, None)
    terms = terms_of(task, batch)
    shares = gradient_shares(task, terms)
    assert sum(share for _, share in shares.values()) == pytest.approx(1)
    norms = {}
    for name in terms:
        student.zero_grad()
        terms[name].backward(retain_graph=True)
        norms[name] = sum(float(w.grad.square().sum()) for w in student.parameters() if w.grad is not None) ** 0.5
    for name, (value, share) in shares.items():
        assert value == terms[name].item()
        assert share == pytest.approx(norms[name] / sum(norms.values()), rel=1e-4)


def test_a_term_that_does_not_depend_on_the_student_has_no_share(student: Student, batch: Batch) -> None:
    task = make(student, None)
    shares = gradient_shares(task, {**terms_of(task, batch), "own": torch.zeros(())})
    assert shares["own"] == (0.0, 0.0)
    assert sum(share for _, share in shares.values()) == pytest.approx(1)


def test_the_column_term_fades(student: Student, batch: Batch) -> None:
    task = make(student, None, AuxSection(columns=2.0, columns_until=0.5))
    whole, half = terms_of(task, batch, 0, 0.0)["columns"], terms_of(task, batch, 0, 0.25)["columns"]
    torch.testing.assert_close(half, whole / 2)
    assert "columns" not in terms_of(task, batch, 0, 0.5)


def test_auxiliary_losses_are_switched_off_one_by_one(student: Student, batch: Batch) -> None:
    for aux, names, graded in (
        (AuxSection(ctc=0.0), {"characters", "columns"}, False),
        (AuxSection(columns=0.0), {"characters", "ctc"}, True),
        (AuxSection(ctc=0.0, columns=0.0), {"characters"}, False),
    ):
        task = make(student, None, aux)
        terms = terms_of(task, batch)
        assert set(terms) == names
        assert task.find_unused_parameters() != graded
        student.zero_grad()
        task.total(terms).backward()
        check_gradients(task)


def test_words_that_do_not_fit_their_columns_are_counted(student: Student, batch: Batch) -> None:
    ids = student.charset.encode(["aaaa", "abab", "a", "aabb"])
    assert ctc_fits(ids, 36, 7).tolist() == [True] * 4
    assert ctc_fits(ids, 36, 6).tolist() == [False, True, True, True]
    assert ctc_fits(ids, 36, 5).tolist() == [False, True, True, False]
    for word, columns in (("aaaa", 6), ("aabb", 5)):
        encoded = student.charset.encode([word])
        assert ctc_loss(torch.randn(1, columns, 37), encoded, 36) == 0
        assert ctc_loss(torch.randn(1, columns + 1, 37), encoded, 36) > 0
    task = make(student, None)
    terms_of(task, dataclasses.replace(batch, labels=["cat", "0" * 17, "a", "1" * 25]))  # of 32 columns
    assert task.log_metrics()["words_without_ctc"] == 2
    assert "words_without_ctc" not in task.log_metrics(), "none since the last time"


def test_two_views_learn_to_agree(student: Student, teacher: ClipTeacher, batch: Batch) -> None:
    losses, reads_columns = {"consistency": LossSection(0.2, until=0.5)}, learner(student, "ctc")
    other = dataclasses.replace(batch, second=torch.rand(4, 3, 32, 128) * 2 - 1)
    task = DistillationTask(reads_columns, teacher, GuidanceSection(), AuxSection(), losses=losses).eval()
    assert task.second_view
    terms = terms_of(task, other)
    assert set(terms) == {"characters", "ctc", "columns", *GUIDANCE, "consistency"}
    ids = student.charset.encode(batch.labels)
    views = [reads_columns(images) for images in (other.images, other.second)]
    torch.testing.assert_close(terms["ctc"], (ctc_loss(views[0], ids, 36) + ctc_loss(views[1], ids, 36)) / 2)
    p, q = (view.log_softmax(dim=-1) for view in views)
    apart = ((p.exp() - q.exp()) * (p - q)).sum(dim=(1, 2)) / (2 * torch.tensor([3.0, 2.0, 7.0, 1.0]))
    torch.testing.assert_close(terms["consistency"], 0.2 * apart.mean())
    task.total(terms).backward()
    check_gradients(task)
    late = task(task.prepare(batch, 0, 0.75))
    assert "consistency" not in late, "no second view is needed any more"
    assert terms_of(task, dataclasses.replace(batch, second=batch.images))["consistency"] == 0
    assert not make(student, None).second_view
    for aux, reader in ((AuxSection(ctc=0), student), (AuxSection(), without_columns(student))):
        with pytest.raises(UserError, match=r"losses\.consistency compares columns that learn by CTC"):
            DistillationTask(reader, None, GuidanceSection(), aux, losses=losses)


def without_columns(student: Student) -> Student:
    return Student(dataclasses.replace(student.config, column_head=False))


def test_the_same_seed_builds_the_same_student_and_leaves_the_global_generator() -> None:
    section = StudentSection(width=32, depth=4)
    before = torch.random.get_rng_state()
    one, two, other = (build_student(section, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_a_baseline_starts_as_its_student(material: Path) -> None:
    config = Config(student=StudentSection(width=32, depth=4), teacher=TeacherSection(name=str(material / "teacher")))
    guided = build_task(config)
    baseline = build_task(dataclasses.replace(config, teacher=TeacherSection(name=None)))
    assert [each.name for each in guided.teachers] == ["teacher"]
    assert baseline.teachers == []
    torch.testing.assert_close(baseline.student.state_dict(), guided.student.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "heads"),
    [({"width": 32}, (1, 1)), ({"width": 128}, (4, 4)), ({"width": 20}, (1, 1)), ({"width": 192}, (6, 6)),
     ({"size": "paper"}, (6, 12)), ({"size": "paper", "width": 64}, (2, 2)), ({"encoder": "test_vit"}, (2, 2))],
)  # fmt: skip
def test_heads_follow_the_width(change: dict[str, object], heads: tuple[int, int]) -> None:
    config = build_student(StudentSection(**change), 0).config  # type: ignore[arg-type]
    assert (config.heads, config.decoder_heads) == heads


def test_the_stem_can_be_set() -> None:
    student = build_student(StudentSection(width=32, depth=4, stem=[8, 16, 24]), 0)
    assert student.config.stem == (8, 16, 24)
    assert student.encoder.stem[-1].reduce.conv.out_channels == 24  # type: ignore[union-attr,index]


def test_a_column_head_only_where_there_are_columns() -> None:
    assert build_student(StudentSection(), 0).column_head is not None
    assert build_student(StudentSection(encoder="vit", width=32), 0).column_head is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"charset": "63"}, "no alphabet '63'"),
        ({"encoder": "vit_tinny_patch16_224"}, "vit_tiny_patch16_224"),
        ({"encoder": "test_vit", "depth": 4}, "depth"),
        ({"depth": 2}, "depth 3 or more"),
        ({"decoder_depth": 1}, "depth 3 or more"),
        ({"dropout": 1.5}, "dropout"),
        ({"stem": [24, 48]}, "three numbers"),
        ({"stem": [24, 48, 96], "encoder": "vit"}, "student.stem"),
        ({"init": "tinny"}, "no student 'tinny'"),
        ({"init": "tiny-free", "decoding": "ctc", "depth": 2}, "depth 3 or more"),
    ],
)
def test_students_that_can_not_be_built(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_student(StudentSection(**change), 0)  # type: ignore[arg-type]


def test_a_student_to_start_from(student: Student, tmp_path: Path) -> None:
    student.save_pretrained(tmp_path / "start")
    loaded = build_student(StudentSection(init=str(tmp_path / "start")), 0)
    assert loaded.training
    torch.testing.assert_close(loaded.state_dict(), student.state_dict())
    with pytest.raises(UserError, match="alphabet of 36"):
        build_student(StudentSection(init=str(tmp_path / "start"), charset="94"), 0)


def test_a_student_to_start_from_may_get_other_sizes() -> None:
    said: list[str] = []
    section = StudentSection(init="tiny-free", decoding="ctc", decoder=False, depth=6, stem_blocks=[2, 4])
    grown = build_student(section, 0, said.append)
    assert (len(grown.encoder.blocks), grown.config.stem_blocks) == (6, (2, 4))  # type: ignore[union-attr,arg-type]
    assert said[0].startswith("tiny-free with stem_blocks [2, 4], depth 6: 8")
    assert said[0].endswith("starting as identities, are encoder.stem.2.more.2, encoder.blocks.5")


def test_no_teacher_is_a_choice_and_an_unknown_one_a_mistake() -> None:
    assert build_teachers(Config(teacher=TeacherSection(name=None)), (32, 128)) == []
    with pytest.raises(UserError, match="words-small"):
        build_teachers(Config(teacher=TeacherSection(name="word-small")), (32, 128))


@pytest.mark.parametrize(("alphabet", "count"), [("0123", 0), ("01\u05d0\u05d1\u0628", 3)])
def test_scripts_that_run_from_right_to_left_are_said(alphabet: str, count: int, student: Student) -> None:
    reader = Student(dataclasses.replace(student.config, charset=alphabet))
    lines = DistillationTask(reader, None, GuidanceSection(), AuxSection()).warnings()
    assert [line for line in lines if "from right to left" in line] == [
        line for line in lines if line.startswith(f"{count} characters run")
    ]
    assert bool(lines) == bool(count)
