"""The linguistic consistency loss (LCL): rows recognise their own teacher rows, and relations between rows agree.

Source: CLIP-OCR, arXiv 2310.04999; docs/method.md, section 1.2. The defaults are those of the reference
implementation.

Both terms compare every row with every row. That matrix is never held as a whole: it is computed in blocks of rows,
and each block adds its part to the value and to the gradients before the next one is computed. So memory grows with
the rows, not with their square, and nothing is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Norm = Literal["published", "standard"]
"""`a / (|a| + eps)` as in the reference implementation, or `a / max(|a|, eps)` as in `F.normalize`."""

BLOCK_ENTRIES = 2**23
"""Entries of a block of the row-by-row matrix: 32 MiB in float32."""
SMALLEST_BLOCK = 64
"""Rows that a block has at least, for matrix products worth the name."""


def lcl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 0.03,
    first_weight: float = 0.1,
    second_weight: float = 5.0,
    gather_second_order: bool = False,
    eps: float = 1e-7,
    norm: Norm = "published",
    block: int | None = None,
) -> Tensor:
    """Compute the linguistic consistency loss of R student rows against their R teacher rows.

    With A, B the normalised rows (R, C):

        first_weight * CE(A B^T / temperature, identity) + second_weight * mean |A A^T - B B^T|

    In the first term row i has to recognise its own teacher row among all; the second is over all pairs of rows.

    With several processes every one has to call this, with row counts of its own. The teacher rows of all of them
    join the negatives of the first term, own rows first; gathered rows carry no gradient. The second term is over own
    rows, so its value depends on how the batch is split; with `gather_second_order` it is that of the joined batch: the
    same on every process, and the mean of the processes' gradients, which DDP takes, is exact.

    Args:
        student: (R, C) rows; half precision is computed in float32, also under autocast.
        teacher: (R, C) rows; they get a gradient too, for norms on the teacher's side.
        temperature: of the first term.
        first_weight: weight of the first term.
        second_weight: weight of the second term.
        gather_second_order: relate the rows of all processes in the second term.
        eps: keeps the normalisation of a zero row finite.
        norm: form in which `eps` enters.
        block: rows of the matrix that are held at once; None chooses (see `BLOCK_ENTRIES`). It changes nothing else.

    Returns:
        A scalar; 0 (with a zero gradient) when R is 0.

    Raises:
        ValueError: when student's and teacher's rows differ in shape or aren't matrices.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(f"lcl needs two (R, C) matrices of one shape, got {(*student.shape,)} and {(*teacher.shape,)}")
    with torch.autocast(student.device.type, enabled=False):
        form = _Form(temperature, first_weight, second_weight, gather_second_order, eps, norm, block)
        value: Tensor = _Consistency.apply(_raised(student), _raised(teacher), form)
        return value


def _raised(rows: Tensor) -> Tensor:
    # Half precision is raised to float32; float64 is left alone, for checks of the gradient.
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


@dataclass(frozen=True)
class _Form:
    """The options of `lcl`."""

    temperature: float
    first_weight: float
    second_weight: float
    gather_second_order: bool
    eps: float
    norm: Norm
    block: int | None

    def blocks(self, rows: int, columns: int) -> list[slice]:
        """Cut a matrix of `rows` x `columns` into blocks of rows."""
        size = self.block or max(SMALLEST_BLOCK, BLOCK_ENTRIES // max(columns, 1))
        return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


class _Side:
    """The rows of one side, normalised, and the gradient that is summed up for them."""

    def __init__(self, raw: Tensor, form: _Form, with_gradient: bool) -> None:
        self.norms = torch.linalg.vector_norm(raw, dim=-1, keepdim=True)
        self.divisors = self.norms.clamp(min=form.eps) if form.norm == "standard" else self.norms + form.eps
        self.rows = raw / self.divisors
        self.gradient = torch.zeros_like(raw) if with_gradient else None
        self.form = form

    def gradient_of_raw(self) -> Tensor | None:
        """Carry the gradient through the normalisation, in place; the gradient of a norm of 0 is taken as 0."""
        if self.gradient is None:
            return None
        along = torch.linalg.vecdot(self.rows, self.gradient).unsqueeze(-1)
        if self.form.norm == "standard":
            along = along.where(self.norms > self.form.eps, 0)  # below it the divisor is a constant
        else:
            along = (along * self.divisors / self.norms).where(self.norms > 0, 0)
        return self.gradient.addcmul_(self.rows, along, value=-1).div_(self.divisors)


class _Consistency(torch.autograd.Function):
    """Both terms of (R, C) rows; the gradients are computed with the value."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, form: _Form) -> Tensor:
        own = _Side(student, form, ctx.needs_input_grad[0])
        target = _Side(teacher, form, ctx.needs_input_grad[1])
        other_targets = gather_others(target.rows)
        every_target = torch.cat([target.rows, *other_targets]) if other_targets else target.rows
        value = _first_order(own, target, every_target, form)
        if form.gather_second_order and other_targets:
            every_row = torch.cat([own.rows, *gather_others(own.rows)])
            # Each process knows the gradient of its own rows only, and DDP takes the mean over processes: undo that.
            part = _second_order(own, target, every_row, every_target, form, dist.get_world_size())
            dist.all_reduce(part)
            value += part
        else:
            value += _second_order(own, target, own.rows, target.rows, form)
        ctx.gradients = own.gradient_of_raw(), target.gradient_of_raw()
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        to_student, to_teacher = (None if own is None else own * gradient for own in ctx.gradients)
        return to_student, to_teacher, None


def _first_order(own: _Side, target: _Side, every_target: Tensor, form: _Form) -> Tensor:
    """Add the mean cross-entropy of (R, M) similarities, M >= R, of row i with target i, and its gradients."""
    rows = own.rows
    total = rows.new_zeros(())
    weight = form.first_weight / max(len(rows), 1)
    for part in form.blocks(len(rows), len(every_target)):
        scaled = rows[part] / form.temperature  # divides R * C numbers, R * M in the formula
        logits = scaled @ every_target.T
        surprise = logits.logsumexp(dim=1)
        total += weight * (surprise - logits.diagonal(part.start)).sum()
        if own.gradient is None and target.gradient is None:
            continue
        errors = logits.sub_(surprise.unsqueeze(1)).exp_()
        errors.diagonal(part.start).sub_(1)
        if own.gradient is not None:
            own.gradient[part].addmm_(errors, every_target, alpha=weight / form.temperature)
        if target.gradient is not None:
            target.gradient.addmm_(errors[:, : len(rows)].T, scaled, alpha=weight)
    return total


def _second_order(
    own: _Side, target: _Side, every_row: Tensor, every_target: Tensor, form: _Form, processes: int = 1
) -> Tensor:
    """Add own rows' part of `mean |A A^T - B B^T|` over all rows, and its gradients, `processes` times as much.

    Each relation between two rows stands in the symmetric matrix twice, hence the factor 2.
    """
    total = own.rows.new_zeros(())
    weight = form.second_weight / max(len(every_row), 1) ** 2
    for part in form.blocks(len(own.rows), len(every_row)):
        gap = own.rows[part] @ every_row.T
        gap.addmm_(target.rows[part], every_target.T, alpha=-1)
        # Row by row: one running float32 sum over millions of entries is some parts in a thousand off.
        total += weight * torch.linalg.vector_norm(gap, ord=1, dim=1).sum()
        if own.gradient is None and target.gradient is None:
            continue
        signs = gap.sign_()
        if own.gradient is not None:
            own.gradient[part].addmm_(signs, every_row, alpha=2 * weight * processes)
        if target.gradient is not None:
            target.gradient[part].addmm_(signs, every_target, alpha=-2 * weight * processes)
    return total


@torch.no_grad()
def gather_others(rows: Tensor) -> list[Tensor]:
    """Gather the (R_r, C) rows of all other processes, by rank, without gradient; row counts may differ.

    Every process of the group has to call it. Without a process group there are no others.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return []
    world, rank = dist.get_world_size(), dist.get_rank()
    own_length = torch.tensor([len(rows)], device=rows.device)
    lengths = [torch.empty_like(own_length) for _ in range(world)]
    dist.all_gather(lengths, own_length)
    counts = [int(length) for length in lengths]
    # Collectives want one shape: pad to the longest, cut afterwards.
    padded = F.pad(rows.detach(), (0, 0, 0, max(counts) - len(rows))).contiguous()
    gathered = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(gathered, padded)
    return [block[:count] for other, (block, count) in enumerate(zip(gathered, counts, strict=True)) if other != rank]
