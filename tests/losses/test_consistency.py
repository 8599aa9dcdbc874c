"""Consistency of two views, against the sum of its definition and numerical gradients."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from losses.consistency import consistency
from losses.registry import LossContext
from students.charset import Charset
from students.stages import Stages

LENGTHS = [5, 3]


@pytest.fixture
def sides() -> tuple[Stages, LossContext]:
    """Two words, of 3 characters in 5 columns and of 1 in 3."""
    none = (torch.zeros(2, 4, 2),) * 3
    first, second = (torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    stages = Stages(None, none, None, torch.zeros(2, 2), first, torch.tensor(LENGTHS))
    return stages, LossContext(Charset("abc").encode(["cab", "a"]), second_columns=second)


def test_it_is_both_divergences_of_the_own_columns(sides: tuple[Stages, LossContext]) -> None:
    stages, context = sides
    one, other = (each.detach().softmax(dim=-1).tolist() for each in (stages.columns, context.second_columns))  # type: ignore[union-attr]
    expected = 0.0
    for word, (length, characters) in enumerate(zip(LENGTHS, [3, 1], strict=True)):
        for column in range(length):
            for p, q in ((one, other), (other, one)):
                pairs = zip(p[word][column], q[word][column], strict=True)
                expected += sum(a * math.log(a / b) for a, b in pairs) / (2 * characters * 2)
    assert consistency(stages, context).item() == pytest.approx(expected, rel=1e-9)


def test_a_view_moves_towards_the_other_one_at_rest(sides: tuple[Stages, LossContext]) -> None:
    stages, context = sides
    first, second = stages.columns, context.second_columns
    assert first is not None
    assert second is not None
    gradients = torch.autograd.grad(consistency(stages, context), (first, second))
    apart = first.detach().softmax(dim=-1) - second.detach().softmax(dim=-1)
    scale = torch.tensor([1 / 3, 1.0])[:, None, None] / 4
    scale = scale * (torch.arange(5) < torch.tensor(LENGTHS)[:, None])[:, :, None]
    torch.testing.assert_close(gradients[0], apart * scale)
    torch.testing.assert_close(gradients[1], -apart * scale)


def test_equal_views_cost_nothing(sides: tuple[Stages, LossContext]) -> None:
    stages, context = sides
    assert consistency(stages, dataclasses.replace(context, second_columns=stages.columns)) == 0
    with pytest.raises(ValueError, match="two views"):
        consistency(stages, dataclasses.replace(context, second_columns=None))
