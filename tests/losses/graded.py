"""The consistency loss with its gradients, in one process and in groups of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from losses.lcl import lcl
from tests.gloo import run_groups

Graded = tuple[Tensor, Tensor, Tensor]
"""A value and its gradients on both sides."""
Case = dict[str, Any]
"""`student` and `teacher` rows by rank, and `options` of the loss."""


def graded(student: Tensor, teacher: Tensor, **options: Any) -> Graded:
    """Compute the loss and its gradients."""
    student, teacher = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    value = lcl(student, teacher, **options)
    return value.detach(), *torch.autograd.grad(value, (student, teacher))


def graded_in_groups(cases: dict[int, dict[str, Case]], folder: Path) -> dict[int, list[dict[str, Graded]]]:
    """Compute every case of each group size on every rank: by size, rank and name."""
    torch.save(cases, folder / "cases.pt")
    return run_groups(graded_on_rank, cases, folder)


def graded_on_rank(rank: int, world: int, folder: Path) -> dict[str, Graded]:
    """Compute one rank's share."""
    cases = torch.load(folder / "cases.pt", weights_only=True)[world]
    return {
        name: graded(case["student"][rank], case["teacher"][rank], **case["options"]) for name, case in cases.items()
    }
