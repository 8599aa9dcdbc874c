"""Distillation of distributions over characters: the losses `kd` and `dkd`, on a student's decoder or its columns.

Both are means over the R (word, position) pairs that are a character or the end and that both sides can write. They
carry the square of the temperature, so that their gradients stay comparable when it changes, and are computed in
float32, also under autocast. They need `Guidance.characters` and its mask alone, wherever these come from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.registry import LossContext, register_loss
from students.alignment import label_characters, occupancy, pool_columns
from students.stages import Stages
from teachers.guidance import Guidance

Head = Literal["decoder", "columns", "both"]
"""What of the student learns from the distributions: its decoder, its columns pooled by character, or both."""
Scores = tuple[Tensor, Tensor, Tensor]
"""The student's and the teacher's scores, each (R, G), and the true classes (R,)."""


@register_loss("kd", needs=("characters",))
def kd(
    stages: Stages, guidance: Guidance, context: LossContext, *, temperature: float = 4.0, head: Head = "decoder"
) -> dict[str, Tensor]:
    """Compute `kd_loss` on the characters that student and teacher share; on columns as `kd_columns`."""

    def loss(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        return kd_loss(student, teacher, temperature)

    return _on_heads("kd", loss, head, stages, guidance, context)


@register_loss("dkd", needs=("characters",))
def dkd(
    stages: Stages, guidance: Guidance, context: LossContext, *, temperature: float = 4.0, alpha: float = 1.0,
    beta: float = 8.0, head: Head = "decoder",
) -> dict[str, Tensor]:  # fmt: skip
    """Compute `dkd_loss` on the characters that student and teacher share; on columns as `dkd_columns`."""

    def loss(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        return dkd_loss(student, teacher, targets, temperature, alpha=alpha, beta=beta)

    return _on_heads("dkd", loss, head, stages, guidance, context)


def _on_heads(
    name: str, loss: Callable[[Tensor, Tensor, Tensor], Tensor], head: Head, stages: Stages, guidance: Guidance,
    context: LossContext,
) -> dict[str, Tensor]:  # fmt: skip
    terms = {} if head == "columns" else {name: loss(*shared_scores(stages, guidance, context))}
    return terms if head == "decoder" else terms | {f"{name}_columns": loss(*pooled_scores(stages, guidance, context))}


def shared_scores(stages: Stages, guidance: Guidance, context: LossContext) -> Scores:
    """Select the positions that both sides can write, and the classes that they share.

    Raises:
        ValueError: when the teacher doesn't read, or the student learns without a decoder.
    """
    alphabet = context.alphabet
    if guidance.characters is None or alphabet is None:
        raise ValueError("a teacher that does not read has no distributions over characters")
    if stages.logits is None:
        raise ValueError("a student that learns without a decoder has no distributions over characters")
    targets = alphabet.classes[context.target_ids[:, 1:]]
    mask = guidance.mask & (targets >= 0)
    student = alphabet.student_scores(stages.logits.float()[mask])
    return student, alphabet.teacher_scores(guidance.characters[mask]), targets[mask]


def pooled_scores(stages: Stages, guidance: Guidance, context: LossContext) -> Scores:
    """Pool the student's columns by the characters of the label, and select as `shared_scores` does.

    CTC has no end token, so neither the end's positions nor its probability take part; nor do words that don't fit
    the columns. Source: docs/method.md, section 4.6.

    Raises:
        ValueError: when the teacher doesn't read, or the student has no column head.
    """
    alphabet = context.alphabet
    if guidance.characters is None or alphabet is None or stages.columns is None:
        raise ValueError("distributions over characters and a student with a column head are needed")
    with torch.autocast(stages.columns.device.type, enabled=False):
        columns = stages.columns.to(torch.promote_types(stages.columns.dtype, torch.float32))
        log_probs = columns.log_softmax(dim=-1)
        targets, lengths = label_characters(context.target_ids, log_probs.shape[-1] - 1)
        weights = occupancy(log_probs, targets, stages.own_columns, lengths)
        classes = alphabet.classes[targets]
        mask = guidance.mask[:, :-1] & (classes > 0) & (weights > 0).any(dim=1)
        # In the place of the end stands a number that is cut off again with the end's class.
        student = alphabet.student_scores(F.pad(pool_columns(log_probs, weights)[mask], (1, 0)))
        teacher = alphabet.teacher_scores(guidance.characters[:, :-1][mask])
        return student[:, 1:], teacher[:, 1:], classes[mask] - 1


def kd_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Compare distributions: `T^2 KL(p_T || q_T)`, mean over rows (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        student: (R, G) scores.
        teacher: (R, G) scores; they get no gradient.
        temperature: T, which divides both.

    Returns:
        A scalar; 0 when R is 0.
    """
    with torch.autocast(student.device.type, enabled=False):
        q = (student.float() / temperature).log_softmax(dim=-1)
        p = (teacher.detach().float() / temperature).log_softmax(dim=-1)
        return temperature**2 * _mean(_divergence(p, q))


def dkd_loss(
    student: Tensor,
    teacher: Tensor,
    targets: Tensor,
    temperature: float = 4.0,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Compare target and other classes apart: `T^2 (alpha TCKD + beta NCKD)` (Zhao et al. 2022, arXiv 2203.08679).

    TCKD is the KL of (target, anything else), NCKD that of the other classes among themselves. `kd_loss` is
    TCKD + (1 - p_target) NCKD row by row, where a confident teacher teaches next to nothing about the other classes.

    Args:
        student: (R, G) scores.
        teacher: (R, G) scores; they get no gradient.
        targets: (R,) the true classes.
        temperature: T, which divides both.
        alpha: weight of TCKD.
        beta: weight of NCKD.

    Returns:
        A scalar; 0 when R is 0.
    """
    with torch.autocast(student.device.type, enabled=False):
        q, p = student.float() / temperature, teacher.detach().float() / temperature
        true = F.one_hot(targets, student.shape[-1]).bool()
        binary = _divergence(_split(p, true), _split(q, true))
        rest = _divergence(_without(p, true), _without(q, true))
        return temperature**2 * (alpha * _mean(binary) + beta * _mean(rest))


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Compute KL(p || q) of (R, G) log-probabilities row by row: (R,)."""
    return F.kl_div(q, p, reduction="none", log_target=True).sum(dim=-1)


def _split(scores: Tensor, true: Tensor) -> Tensor:
    """Compute the log-probabilities of the target and of anything else: (R, 2)."""
    log_probabilities = scores.log_softmax(dim=-1)
    hit = log_probabilities.masked_fill(~true, float("-inf")).logsumexp(dim=-1)
    missed = log_probabilities.masked_fill(true, float("-inf")).logsumexp(dim=-1)
    return torch.stack([hit, missed], dim=-1)


def _without(scores: Tensor, true: Tensor) -> Tensor:
    """Compute the log-probabilities of the other classes among themselves: (R, G - 1)."""
    return scores[~true].view(len(scores), scores.shape[-1] - 1).log_softmax(dim=-1)


def _mean(rows: Tensor) -> Tensor:
    return rows.sum() / max(len(rows), 1)
