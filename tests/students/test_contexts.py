"""Non-autoregressive students: the context of each position, in training and when they read."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from students.decoder import blind_mask, causal_mask, cloze_mask
from students.errors import UserError
from students.student import BLIND_RATIO, Student, StudentConfig

WORDS = ["street", "a", "exit", "42", "cafe12"]


def parallel(config: StudentConfig, refine_iters: int) -> Student:
    """Random weights some way from their start, so that context matters; no dropout."""
    student = Student(dataclasses.replace(config, decoding="nar", refine_iters=refine_iters, dropout=0.0))
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
        student.head.bias[student.charset.end_id] += 4
    return student.eval()


def logits(student: Student, images: Tensor, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return student.stages(images, ids).logits


def test_an_autoregressive_student_attends_to_earlier_characters(student: Student) -> None:
    for training in (True, False):
        assert torch.equal(student.train(training).context_mask(torch.zeros(3, 5)), causal_mask(5, torch.device("cpu")))


def test_without_refinements_positions_attend_to_the_start_only(small_config: StudentConfig, images: Tensor) -> None:
    student = parallel(small_config, 0).train()
    one, other = student.charset.encode(["street"] * 6), student.charset.encode(["taverx"] * 6)
    assert torch.equal(logits(student, images, one), logits(student, images, other))
    read = student(images)
    assert read.shape == (6, 9, 37)
    torch.testing.assert_close(logits(student, images, one), read[:, :7])  # it learns what it does when it reads


def test_a_refinement_attends_to_all_but_its_own_character(small_config: StudentConfig, images: Tensor) -> None:
    student = parallel(small_config, 1)
    before = logits(student, images, student.charset.encode(["street"] * 6))
    after = logits(student, images, student.charset.encode(["stxeet"] * 6))
    same = [torch.equal(before[:, position], after[:, position]) for position in range(7)]
    assert same == [False, False, True, False, False, False, False]


def test_half_of_the_positions_train_on_the_start_only(small_config: StudentConfig) -> None:
    student = parallel(small_config, 2).train()
    ids = student.charset.encode(["street"] * 500)[:, :-1]
    masks, again = student.context_mask(ids), student.context_mask(ids)
    assert masks.shape == (500, 1, 7, 7)
    assert not torch.equal(masks, again), "drawn anew"
    blind, cloze = (make(7, ids.device) for make in (blind_mask, cloze_mask))
    drawn = (masks[:, 0] == blind).all(dim=-1)
    assert bool(((masks[:, 0] == cloze).all(dim=-1) | drawn).all())
    assert float(drawn.float().mean()) == pytest.approx(BLIND_RATIO, abs=0.03)
    assert torch.equal(student.eval().context_mask(ids), cloze)


def test_a_training_pass_mixes_the_contexts_of_reading(small_config: StudentConfig, images: Tensor) -> None:
    student = parallel(small_config, 1)
    ids = student.charset.encode([*WORDS, "x"])
    sees = logits(student, images, ids)
    student.config = dataclasses.replace(student.config, refine_iters=0)
    blind = logits(student, images, ids)
    student.config = dataclasses.replace(student.config, refine_iters=1)
    student.train().encoder.eval()  # its batch norms would see other pictures
    mixed = logits(student, images, ids)
    near = [(mixed - of).abs().amax(dim=-1) < 1e-5 for of in (blind, sees)]
    assert bool((near[0] | near[1]).all())
    assert bool((near[0] & ~near[1]).any())
    assert bool((near[1] & ~near[0]).any())


def test_a_refinement_starts_from_the_previous_pass(small_config: StudentConfig, images: Tensor) -> None:
    student = parallel(small_config, 2)
    with torch.no_grad():
        memory = student.memory_keys(student.encode(images))
        first = student.nar(memory, 9)
        second = student.refine(memory, first, 9)
        assert torch.equal(student(images), student.refine(memory, second, 9))
        assert student(images, 4).shape == (6, 5, 37)
    ends = (first.argmax(dim=-1) == student.charset.end_id).any(dim=1)
    assert bool(ends.any())


def test_a_saved_student_reads_the_same(small_config: StudentConfig, images: Tensor, tmp_path: Path) -> None:
    student = parallel(small_config, 1)
    student.save_pretrained(tmp_path)
    loaded = Student.from_pretrained(tmp_path)
    assert loaded.config == student.config
    assert loaded.read_batch(images) == student.read_batch(images)
    assert loaded.summary()["decoding"] == "nar, refine_iters: 1"
    loaded.choose_decoding(refine_iters=0)
    student.config = dataclasses.replace(student.config, refine_iters=0)
    assert loaded.read_batch(images) == student.read_batch(images)


def test_refining_can_be_chosen_again(small_config: StudentConfig) -> None:
    student = parallel(small_config, 2)
    for count in (0, 2):
        student.choose_decoding(refine_iters=count)
        assert student.config.refine_iters == count
    for wrong in (1.5, "2", -1):
        with pytest.raises(UserError, match="give a whole number, 0 or more"):
            student.choose_decoding(refine_iters=wrong)  # type: ignore[arg-type]


def test_only_a_student_that_refines_has_a_choice(small_config: StudentConfig) -> None:
    with pytest.raises(UserError, match="as it was trained"):
        parallel(small_config, 0).choose_decoding(refine_iters=1)
    with pytest.raises(UserError, match="refine_iters of decoding ar"):
        parallel(small_config, 1).choose_decoding("ar")


@pytest.mark.parametrize(
    "change", [{"decoding": "backwards"}, {"refine_iters": 1}, {"refine_iters": -1, "decoding": "nar"}]
)
def test_decodings_that_none_can_have(small_config: StudentConfig, change: dict[str, object]) -> None:
    with pytest.raises(UserError):
        dataclasses.replace(small_config, **change)  # type: ignore[arg-type]
