"""Comparison of columns one by one, for a teacher whose columns are those of the student: the loss `column_kd`.

Two CTC readers put blanks and characters into different columns as a rule; a student that is guided column by column
from the start emits its characters in its teacher's columns. docs/method.md, section 4.7.
"""

from __future__ import annotations

import torch
from torch import Tensor

from losses.kd import kd_loss
from losses.registry import register_loss
from students.decoding import BLANK_ID
from students.errors import UserError
from students.stages import Stages
from teachers.guidance import Guidance


@register_loss("column_kd", needs=("columns",))
def column_kd(stages: Stages, guidance: Guidance, *, temperature: float = 1.0, include_blank: bool = False) -> Tensor:
    """Compute `kd_loss` over (N, W, C + 1) columns, of those in which the teacher is for a character.

    Args:
        stages: the student's side.
        guidance: the teacher's side, of the same columns and alphabet.
        temperature: divides both sides.
        include_blank: take the columns too in which the teacher is for the blank, most of a word.

    Raises:
        ValueError: when the sides differ in columns or classes.
        UserError: for a temperature that isn't above 0.
    """
    if not temperature > 0:
        raise UserError(f"losses.column_kd has a temperature of {temperature}; give more than 0")
    if stages.columns is None or guidance.columns is None or stages.columns.shape != guidance.columns.shape:
        raise ValueError("a student and a teacher of the same columns and classes are needed")
    chosen = stages.own_columns[:, None] > torch.arange(stages.columns.shape[1], device=stages.columns.device)
    if not include_blank:
        chosen = chosen & (guidance.columns.argmax(dim=-1) != BLANK_ID)
    return kd_loss(stages.columns[chosen], guidance.columns[chosen], temperature)
