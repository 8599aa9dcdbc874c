"""Symmetrical distillation: the losses `bridge`, `linguistic` and `visual`, seven comparisons by `losses.lcl.lcl`.

Source: CLIP-OCR, arXiv 2310.04999; docs/method.md, section 1.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from losses.heads import KINDS, TERMS, GuidanceHeads, Kind
from losses.lcl import Norm, lcl
from losses.registry import LossContext, register_loss
from students.stages import Stages
from teachers.guidance import Guidance


@dataclass(frozen=True)
class SymmetricOptions:
    """Options of the three losses; the defaults are those of the reference implementation."""

    include_padding: bool = True
    """Compare the rows of padding positions in the linguistic terms too."""
    gather_second_order: bool = False
    """Relate the rows of all processes in the second-order term; see `lcl`."""
    max_rows: int | None = None
    """Row budget of one term: more rows are sampled down to it, the same on both sides; None takes all."""
    norm: Norm = "published"
    """Form of the row norm; see `lcl`."""

    def __post_init__(self) -> None:
        if self.max_rows is not None and self.max_rows < 1:
            raise ValueError(f"max_rows={self.max_rows} leaves nothing to compare; give 1 or more, or None for all")


@register_loss("bridge", needs=("word",))
def bridge(
    stages: Stages, guidance: Guidance, context: LossContext, *, gather_second_order: bool = False,
    max_rows: int | None = None, norm: Norm = "published",
) -> dict[str, Tensor]:  # fmt: skip
    """Compare the student's summary token (N, D) with the teacher's embedding of the word (N, J)."""
    options = SymmetricOptions(gather_second_order=gather_second_order, max_rows=max_rows, norm=norm)
    return _compare("bridge", stages, guidance, context, options)


@register_loss("linguistic", needs=("text",), decoder=True)
def linguistic(
    stages: Stages, guidance: Guidance, context: LossContext, *, include_padding: bool = True,
    gather_second_order: bool = False, max_rows: int | None = None, norm: Norm = "published",
) -> dict[str, Tensor]:  # fmt: skip
    """Compare the decoder's taps 1 to 3 (N, T, D) with the teacher's text taps (N, T, C) in their reversed order."""
    options = SymmetricOptions(include_padding, gather_second_order, max_rows, norm)
    return _compare("linguistic", stages, guidance, context, options)


@register_loss("visual", needs=("image",))
def visual(
    stages: Stages, guidance: Guidance, context: LossContext, *, gather_second_order: bool = False,
    max_rows: int | None = None, norm: Norm = "published",
) -> dict[str, Tensor]:  # fmt: skip
    """Compare the encoder's taps 1 to 3 (N, S, D) with the teacher's image taps (N, tokens, C)."""
    options = SymmetricOptions(gather_second_order=gather_second_order, max_rows=max_rows, norm=norm)
    return _compare("visual", stages, guidance, context, options)


def symmetric_terms(
    stages: Stages,
    guidance: Guidance,
    heads: GuidanceHeads,
    options: SymmetricOptions,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Compute the terms of all three losses for one batch, in float32 also under autocast.

    Args:
        stages: the student's side.
        guidance: the teacher's side.
        heads: the trained projections between them.
        options: as in the reference implementation, or corrected.
        generator: draws the rows under a row budget; the global generator when None.

    Returns:
        Scalars `bridge`, `linguistic1` to `linguistic3`, `visual1` to `visual3`, those that the teacher has a stage
        for; their sum is the guidance.

    Raises:
        ValueError: when student and teacher differ in words or positions.
    """
    return _lcl_of_pairs(heads, stages, guidance, chosen_rows(guidance, options, generator), options, KINDS)


def chosen_rows(
    guidance: Guidance, options: SymmetricOptions, generator: torch.Generator | None = None,
    kinds: tuple[Kind, ...] = KINDS,
) -> dict[str, Tensor]:  # fmt: skip
    """Choose the rows that take part: for a term's name the indices (R,); a term that takes all is not named."""
    chosen = {}
    inside = guidance.mask.flatten().nonzero().squeeze(1) if not options.include_padding else None
    counts = {}
    if guidance.word is not None:
        counts["bridge"] = len(guidance.word)
    if guidance.text is not None:
        counts["linguistic"] = guidance.mask.numel()
    if guidance.image is not None:
        counts["visual"] = guidance.image[0].shape[:-1].numel()
    for name, kind in TERMS.items():
        if kind not in counts or kind not in kinds:
            continue
        rows = inside if kind == "linguistic" else None
        count = counts[kind] if rows is None else len(rows)
        if options.max_rows is not None and count > options.max_rows:
            device = "cpu" if generator is None else generator.device
            sample = torch.randperm(count, generator=generator, device=device)[: options.max_rows]
            sample = sample.to(guidance.mask.device)
            rows = sample if rows is None else rows[sample]
        if rows is not None:
            chosen[name] = rows
    return chosen


def _compare(
    kind: Kind, stages: Stages, guidance: Guidance, context: LossContext, options: SymmetricOptions
) -> dict[str, Tensor]:
    if context.heads is None:
        raise ValueError(f"the {kind} loss needs the heads between a student and a teacher")
    rows = chosen_rows(guidance, options, context.generator, (kind,))
    return _lcl_of_pairs(context.heads, stages, guidance, rows, options, (kind,))


def _lcl_of_pairs(
    heads: GuidanceHeads, stages: Stages, guidance: Guidance, rows: Mapping[str, Tensor], options: SymmetricOptions,
    kinds: tuple[Kind, ...],
) -> dict[str, Tensor]:  # fmt: skip
    eps = 1e-7 if options.norm == "published" else 1e-12
    with torch.autocast(stages.word.device.type, enabled=False):
        return {
            name: lcl(student, teacher, gather_second_order=options.gather_second_order, eps=eps, norm=options.norm)
            for name, (student, teacher) in heads(stages, guidance, rows, kinds).items()
        }
