"""What a reading teacher's distributions over characters teach: soft targets, and their decoupled form (METHOD 4).

Rows are (word, position) pairs that are a character or the end. Both losses are means over rows and carry the square
of the temperature, so that their gradients stay comparable when it changes (Hinton et al. 2015). They are computed in
float32, also under autocast.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from losses.alphabets import SharedAlphabet
from students.stages import Stages
from teachers.guidance import Guidance


@dataclass(frozen=True)
class ReadingOptions:
    """Switches of the reading terms; the defaults are those of the published DKD."""

    kd: bool = True
    """Whether to compute the term `kd`."""
    dkd: bool = True
    """Whether to compute the term `dkd`."""
    temperature: float = 4.0
    """Divides the scores of both sides."""
    alpha: float = 1.0
    """Weight of the target part of `dkd`."""
    beta: float = 8.0
    """Weight of the non-target part of `dkd`."""


def reading_terms(
    stages: Stages, guidance: Guidance, target_ids: Tensor, alphabet: SharedAlphabet, options: ReadingOptions
) -> dict[str, Tensor]:
    """Compute the terms of one batch on the characters that both sides know.

    Args:
        stages: the student's side.
        guidance: the teacher's side, with `characters`.
        target_ids: (N, L + 2) the student's ids: start, characters, end, padding.
        alphabet: the characters that both know.
        options: which terms, and their switches.

    Returns:
        Scalars `kd` and `dkd`, those that are asked for.

    Raises:
        ValueError: when the teacher doesn't read.
    """
    if guidance.characters is None:
        raise ValueError("a teacher that does not read has no distributions over characters")
    targets = alphabet.classes[target_ids[:, 1:]]
    rows = guidance.mask & (targets >= 0)
    student = alphabet.student_scores(stages.logits.float()[rows])
    teacher = alphabet.teacher_scores(guidance.characters[rows])
    terms = {}
    if options.kd:
        terms["kd"] = soft_targets(student, teacher, options.temperature)
    if options.dkd:
        terms["dkd"] = decoupled(
            student, teacher, targets[rows], options.temperature, alpha=options.alpha, beta=options.beta
        )
    return terms


def soft_targets(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Compare distributions: `T^2 KL(p_T || q_T)`, mean over rows (Hinton et al. 2015, arXiv 1503.02531).

    Args:
        student: (R, G) scores.
        teacher: (R, G) scores; they get no gradient.
        temperature: T, which divides both.

    Returns:
        A scalar; 0 when R is 0.
    """
    with torch.autocast(student.device.type, enabled=False):
        given = (student.float() / temperature).log_softmax(dim=-1)
        wanted = (teacher.detach().float() / temperature).log_softmax(dim=-1)
        return temperature**2 * _mean(_divergence(wanted, given))


def decoupled(
    student: Tensor,
    teacher: Tensor,
    targets: Tensor,
    temperature: float = 4.0,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """Compare target and other classes apart: `T^2 (alpha TCKD + beta NCKD)` (Zhao et al. 2022, arXiv 2203.08679).

    TCKD is the KL of (target, anything else), NCKD that of the other classes among themselves. `soft_targets` is
    TCKD + (1 - p_target) NCKD row by row: there a sure teacher says next to nothing about the other classes.

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
        given, wanted = student.float() / temperature, teacher.detach().float() / temperature
        true = F.one_hot(targets, student.shape[-1]).bool()
        binary = _divergence(_split(wanted, true), _split(given, true))
        rest = _divergence(_without(wanted, true), _without(given, true))
        return temperature**2 * (alpha * _mean(binary) + beta * _mean(rest))


def _divergence(wanted: Tensor, given: Tensor) -> Tensor:
    """KL of (R, G) log-probabilities, row by row: (R,)."""
    return F.kl_div(given, wanted, reduction="none", log_target=True).sum(dim=-1)


def _split(scores: Tensor, true: Tensor) -> Tensor:
    """Log-probabilities of the target and of anything else: (R, 2)."""
    log_probabilities = scores.log_softmax(dim=-1)
    hit = log_probabilities.masked_fill(~true, float("-inf")).logsumexp(dim=-1)
    missed = log_probabilities.masked_fill(true, float("-inf")).logsumexp(dim=-1)
    return torch.stack([hit, missed], dim=-1)


def _without(scores: Tensor, true: Tensor) -> Tensor:
    """Log-probabilities of the other classes among themselves: (R, G - 1)."""
    return scores[~true].view(len(scores), scores.shape[-1] - 1).log_softmax(dim=-1)


def _mean(rows: Tensor) -> Tensor:
    return rows.sum() / max(len(rows), 1)
