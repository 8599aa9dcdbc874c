"""Students that read all at once: what each position sees of a word, in training and when they read."""

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
    made = Student(dataclasses.replace(config, decoding="nar", refine_iters=refine_iters, dropout=0.0))
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
        made.head.bias[made.charset.end_id] += 4
    return made.eval()


def logits(student: Student, images: Tensor, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return student.stages(images, ids).logits


def test_the_published_student_sees_what_stands_before(student: Student) -> None:
    for training in (True, False):
        assert torch.equal(student.train(training).context_mask(torch.zeros(3, 5)), causal_mask(5, torch.device("cpu")))


def test_without_refinements_nothing_is_seen_of_a_word(small_config: StudentConfig, images: Tensor) -> None:
    student = parallel(small_config, 0).train()
    one, other = student.charset.encode(["street"] * 6), student.charset.encode(["taverx"] * 6)
    assert torch.equal(logits(student, images, one), logits(student, images, other))
    read = student(images)
    assert read.shape == (6, 9, 37)
    torch.testing.assert_close(logits(student, images, one), read[:, :7])  # it learns what it does when it reads


def test_the_last_reading_sees_all_but_its_own_character(small_config: StudentConfig, images: Tensor) -> None:
    student = parallel(small_config, 1)
    before = logits(student, images, student.charset.encode(["street"] * 6))
    after = logits(student, images, student.charset.encode(["stxeet"] * 6))
    same = [torch.equal(before[:, place], after[:, place]) for place in range(7)]
    assert same == [False, False, True, False, False, False, False]


def test_half_of_the_positions_learn_blind(small_config: StudentConfig) -> None:
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


def test_training_passes_are_readings_of_each_position(small_config: StudentConfig, images: Tensor) -> None:
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


def test_a_refinement_goes_on_from_what_was_read(small_config: StudentConfig, images: Tensor) -> None:
    student = parallel(small_config, 2)
    with torch.no_grad():
        memory = student.memory_keys(student.encode(images))
        first = student.nar(memory, 9)
        second = student.refine(memory, first, 9)
        assert torch.equal(student(images), student.refine(memory, second, 9))
        assert student(images, 4).shape == (6, 5, 37)
    ends = (first.argmax(dim=-1) == student.charset.end_id).any(dim=1)
    assert bool(ends.any())


def test_what_is_saved_reads_alike(small_config: StudentConfig, images: Tensor, tmp_path: Path) -> None:
    student = parallel(small_config, 1)
    student.save_pretrained(tmp_path)
    loaded = Student.from_pretrained(tmp_path)
    assert loaded.config == student.config
    assert loaded.read_batch(images) == student.read_batch(images)
    assert loaded.summary()["decoding"] == "nar, refine_iters: 1"
    loaded.choose_decoding(refine_iters=0)
    student.config = dataclasses.replace(student.config, refine_iters=0)
    assert loaded.read_batch(images) == student.read_batch(images)


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
