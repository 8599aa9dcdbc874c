from __future__ import annotations

import pytest
import torch
from torch import Tensor

from losses.heads import TERMS, GuidanceHeads
from students.stages import Stages, StudentShape
from teachers.guidance import Guidance, TeacherShape

STUDENT = StudentShape(tokens=5, width=12, decoder_width=10)
TEACHER = TeacherShape(image_tokens=3, image_width=8, text_width=6, joint_width=4)


def three(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(shape), torch.randn(shape), torch.randn(shape)


def both_sides(words: int = 2, positions: int = 4) -> tuple[Stages, Guidance]:
    stages = Stages(
        logits=torch.randn(words, positions, 37), encoder=three(words, 5, 12), decoder=three(words, positions, 10),
        word=torch.randn(words, 12), columns=None,
    )  # fmt: skip
    guidance = Guidance(
        image=three(words, 3, 8), text=three(words, positions, 6), word=torch.randn(words, 4),
        mask=torch.ones(words, positions, dtype=torch.bool),
    )  # fmt: skip
    return stages, guidance


def test_published_size() -> None:
    heads = GuidanceHeads(StudentShape(129, 384, 384), TeacherShape(17, 768, 512, 512))
    # 32.74 M with the heads, 30.89 M without (docs/method.md, section 1.4).
    assert sum(weight.numel() for weight in heads.parameters()) == pytest.approx(1.85e6, rel=0.01)


def test_start_is_the_mean_of_the_students_tokens() -> None:
    stages, guidance = both_sides()
    heads = GuidanceHeads(STUDENT, TEACHER)
    student, _ = heads(stages, guidance)["visual2"]
    mean = stages.encoder[1].mean(dim=1, keepdim=True).expand(-1, 3, -1)
    torch.testing.assert_close(student, heads.align_head_vis[1](mean).flatten(0, 1))


def test_each_term_pairs_rows_of_one_shape() -> None:
    stages, guidance = both_sides()
    pairs = GuidanceHeads(STUDENT, TEACHER)(stages, guidance)
    assert tuple(pairs) == tuple(TERMS)
    shapes = {"bridge": (2, 4), "linguistic": (8, 6), "visual": (6, 8)}
    for name, (student, teacher) in pairs.items():
        assert student.shape == teacher.shape == shapes[TERMS[name]]


def test_picked_rows_are_those_of_the_whole() -> None:
    stages, guidance = both_sides()
    heads = GuidanceHeads(STUDENT, TEACHER)
    picked = {"bridge": torch.tensor([1]), "linguistic2": torch.tensor([5, 0]), "visual3": torch.tensor([4, 2, 3])}
    whole, part = heads(stages, guidance), heads(stages, guidance, picked)
    for name in TERMS:
        for all_rows, some_rows in zip(whole[name], part[name], strict=True):
            torch.testing.assert_close(some_rows, all_rows[picked[name]] if name in picked else all_rows)


def test_every_parameter_gets_a_gradient() -> None:
    heads = GuidanceHeads(STUDENT, TEACHER)
    pairs = heads(*both_sides())
    torch.stack([(student * teacher).sum() for student, teacher in pairs.values()]).sum().backward()
    assert [name for name, weight in heads.named_parameters() if weight.grad is None] == []


def test_half_precision_stages_are_taken() -> None:
    stages, guidance = both_sides()
    heads = GuidanceHeads(STUDENT, TEACHER)
    half = Stages(
        stages.logits, tuple(tap.bfloat16() for tap in stages.encoder), tuple(tap.bfloat16() for tap in stages.decoder),
        stages.word.bfloat16(), None,
    )  # fmt: skip
    assert all(student.dtype == torch.float32 for student, _ in heads(half, guidance).values())


def test_sides_that_do_not_line_up_are_refused() -> None:
    with pytest.raises(ValueError, match="line up"):
        GuidanceHeads(STUDENT, TEACHER)(both_sides(positions=4)[0], both_sides(positions=5)[1])
