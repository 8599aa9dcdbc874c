"""Distillation of a reading teacher's distributions over characters: the losses `kd` and `dkd`.

Both are means over the R (word, position) pairs that are a character or the end and that both sides can write. They
carry the square of the temperature, so that their gradients stay comparable when it changes, and are computed in
float32, also under autocast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.registry import LossContext, register_loss
from students.stages import Stages
from teachers.guidance import Guidance


@register_loss("kd", needs=("characters",), decoder=True)
def kd(stages: Stages, guidance: Guidance, context: LossContext, *, temperature: float = 4.0) -> Tensor:
    """Compute `kd_loss` on the characters that student and teacher share."""
    student, teacher, _ = shared_scores(stages, guidance, context)
    return kd_loss(student, teacher, temperature)


@register_loss("dkd", needs=("characters",), decoder=True)
def dkd(
    stages: Stages, guidance: Guidance, context: LossContext, *, temperature: float = 4.0, alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:  # fmt: skip
    """Compute `dkd_loss` on the characters that student and teacher share."""
    return dkd_loss(*shared_scores(stages, guidance, context), temperature, alpha=alpha, beta=beta)


def shared_scores(stages: Stages, guidance: Guidance, context: LossContext) -> tuple[Tensor, Tensor, Tensor]:
    """Select the rows that both sides can write, and the classes that they share.

    Returns:
        The student's and the teacher's scores, each (R, G), and the true classes (R,).

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
