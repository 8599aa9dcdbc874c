"""The linguistic consistency loss: rows recognise their own teacher rows, and relations between rows agree.

Source: METHOD 1.2 (CLIP-OCR, arXiv 2310.04999). The defaults are the published form.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SecondOrder = Literal["local", "gathered"]
"""Relations among a process's own rows (published), or among those of all processes."""

Normalization = Literal["published", "clamped"]
"""`a / (|a| + eps)` (published), or `a / max(|a|, eps)` as `F.normalize` does it."""


def lcl(
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float = 0.03,
    first_weight: float = 0.1,
    second_weight: float = 5.0,
    second_order: SecondOrder = "local",
    eps: float = 1e-7,
    normalization: Normalization = "published",
) -> Tensor:
    """Compute the linguistic consistency loss of R student rows against their R teacher rows (METHOD 1.2).

    With A, B the normalised rows: `first_weight * CE(A B^T / temperature, identity)`, in which row i has to recognise
    its own teacher row among all, plus `second_weight * mean |A A^T - B B^T|` over all pairs of rows.

    With several processes every one has to call this, with row counts of its own. The teacher rows of all of them
    join the negatives of the first term, own rows first; gathered rows carry no gradient. The second term is over own
    rows (`local`, published: its value depends on how the batch is split), or that of the joined batch (`gathered`:
    the value is the same on every process, and the mean of the processes' gradients, which DDP takes, is exact).

    Args:
        student: (R, C) rows; half precision is computed in float32, also under autocast.
        teacher: (R, C) rows; they get a gradient too, for norms on the teacher's side.
        temperature: of the first term.
        first_weight: weight of the first term.
        second_weight: weight of the second term.
        second_order: whose rows the second term relates.
        eps: keeps the normalisation of a zero row finite.
        normalization: form in which `eps` enters.

    Returns:
        A scalar; 0 (with a zero gradient) when R is 0.

    Raises:
        ValueError: when the two sides differ in shape or aren't matrices.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(f"lcl needs two (R, C) matrices of one shape, got {(*student.shape,)} and {(*teacher.shape,)}")
    with torch.autocast(student.device.type, enabled=False):
        rows = _normalize(student, eps, normalization)
        guides = _normalize(teacher, eps, normalization)
        other_guides = gather_others(guides)
        first = _first_order(rows, torch.cat([guides, *other_guides]) if other_guides else guides, temperature)
        if second_order == "gathered" and other_guides:
            second = _joined_relations(rows, guides, gather_others(rows), other_guides)
        else:
            second = _relation_gap(rows, guides, rows.detach(), guides.detach()) / max(len(rows), 1) ** 2
        return first_weight * first + second_weight * second


def _normalize(rows: Tensor, eps: float, normalization: Normalization) -> Tensor:
    # Half precision is raised to float32; float64 stays what it is, for checks of the gradient.
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    if normalization == "clamped":
        return F.normalize(rows, dim=-1, eps=eps)
    return rows / (torch.linalg.vector_norm(rows, dim=-1, keepdim=True) + eps)


def _first_order(rows: Tensor, guides: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of (R, M) similarities, M >= R, in which row i belongs to guide i."""
    # The temperature divides R * C numbers here, R * M in the formula.
    logits = (rows / temperature) @ guides.T
    losses = F.cross_entropy(logits, torch.arange(len(rows), device=rows.device), reduction="sum")
    return losses / max(len(rows), 1)


def _joined_relations(rows: Tensor, guides: Tensor, other_rows: list[Tensor], other_guides: list[Tensor]) -> Tensor:
    """Second term of the joined batch: own rows against all rows here, summed over processes."""
    every_row = torch.cat([rows.detach(), *other_rows])
    every_guide = torch.cat([guides.detach(), *other_guides])
    own = _relation_gap(rows, guides, every_row, every_guide) / len(every_row) ** 2
    value = own.detach().clone()
    dist.all_reduce(value)
    # Each process knows the gradient of its own rows only, and DDP takes the mean over processes: undo its division.
    scaled = own * dist.get_world_size()
    return value + (scaled - scaled.detach())


def _relation_gap(rows: Tensor, guides: Tensor, every_row: Tensor, every_guide: Tensor) -> Tensor:
    gap: Tensor = _RelationGap.apply(rows, guides, every_row, every_guide)
    return gap


class _RelationGap(torch.autograd.Function):
    """`sum |A X^T - B Y^T|` where X, Y are all rows and A, B those of them that are ours.

    The gradient is that of the whole symmetric matrix of relations with respect to A and B: each relation between
    two rows stands in it twice. Beside its inputs this keeps one (R, M) matrix, and its backward takes two products
    where autograd would take four.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, guides: Tensor, every_row: Tensor, every_guide: Tensor) -> Tensor:
        gap = rows @ every_row.T
        gap.addmm_(guides, every_guide.T, alpha=-1)
        # Row by row: one running float32 sum over millions of entries is some parts in a thousand off.
        total = torch.linalg.vector_norm(gap, ord=1, dim=1).sum()
        ctx.save_for_backward(gap.sign_(), every_row, every_guide)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        signs, every_row, every_guide = ctx.saved_tensors
        to_rows = (signs @ every_row).mul_(2 * gradient) if ctx.needs_input_grad[0] else None
        to_guides = (signs @ every_guide).mul_(-2 * gradient) if ctx.needs_input_grad[1] else None
        return to_rows, to_guides, None, None


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
