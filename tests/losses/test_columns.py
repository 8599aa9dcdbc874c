"""Columns compared one by one: against numpy's sum, in the columns that are asked for."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from losses.columns import column_kd
from losses.kd import kd_loss
from students.stages import Stages
from teachers.guidance import Guidance


@pytest.fixture
def sides() -> tuple[Stages, Guidance]:
    """Two words of 5 and 3 columns; the teacher is for the blank in the columns 1 and 2."""
    columns = torch.randn(2, 5, 4)
    columns[:, 1:3, 0] += 20
    columns[:, [0, 3, 4], 1] += 20
    none = (torch.zeros(2, 3, 2),) * 3
    stages = Stages(None, none, None, torch.zeros(2, 2), torch.randn(2, 5, 4, requires_grad=True), torch.tensor([5, 3]))
    return stages, Guidance(None, None, None, torch.ones(2, 3).bool(), None, columns.log_softmax(dim=-1))


def test_columns_with_a_character_are_compared(sides: tuple[Stages, Guidance]) -> None:
    stages, guidance = sides
    assert stages.columns is not None
    assert guidance.columns is not None
    rows = ([0, 0, 0, 1], [0, 3, 4, 0])
    q, p = stages.columns[rows].log_softmax(dim=-1), guidance.columns[rows]
    value = column_kd(stages, guidance)
    torch.testing.assert_close(value, (p.exp() * (p - q)).sum(dim=-1).mean())
    value.backward()
    assert stages.columns.grad is not None
    touched = stages.columns.grad.ne(0).any(dim=-1)
    assert touched.tolist() == [[True, False, False, True, True], [True, False, False, False, False]]
    every = (
        torch.cat([stages.columns[0], stages.columns[1, :3]]),
        torch.cat([guidance.columns[0], guidance.columns[1, :3]]),
    )
    torch.testing.assert_close(column_kd(stages, guidance, temperature=2.0, include_blank=True), kd_loss(*every, 2.0))


def test_other_columns_can_not_be_compared(sides: tuple[Stages, Guidance]) -> None:
    stages, guidance = sides
    assert guidance.columns is not None
    for columns in (None, guidance.columns[:, :4], guidance.columns[:, :, :3]):
        with pytest.raises(ValueError, match="the same columns"):
            column_kd(stages, dataclasses.replace(guidance, columns=columns))


def test_gradients_are_the_numerical_ones(sides: tuple[Stages, Guidance]) -> None:
    stages, guidance = sides
    assert stages.columns is not None
    step = torch.randn_like(stages.columns) / 100
    (gradient,) = torch.autograd.grad(column_kd(stages, guidance), stages.columns)
    ends = [column_kd(dataclasses.replace(stages, columns=stages.columns + s * step), guidance) for s in (1, -1)]
    torch.testing.assert_close((gradient * step).sum(), (ends[0] - ends[1]) / 2, atol=2e-6, rtol=1e-3)
