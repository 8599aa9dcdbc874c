"""Symmetrical distillation: the seven comparisons of a student's stages with a teacher's guidance, as named terms.

Source: METHOD 1.3 (CLIP-OCR, arXiv 2310.04999).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from losses.heads import TERMS, GuidanceHeads, term_kind
from losses.lcl import Norm, lcl
from students.stages import Stages
from teachers.guidance import Guidance


@dataclass(frozen=True)
class SymmetricOptions:
    """Switches of the guidance terms; the defaults are the published form."""

    include_padding: bool = True
    """Compare the rows of padding positions in the linguistic terms too, as the reference implementation does."""
    gather_second_order: bool = False
    """Relate the rows of all processes in the second-order term; see `lcl`."""
    max_rows: int | None = None
    """Row budget of one term: more rows are sampled down to it, the same on both sides; None takes all."""
    norm: Norm = "published"
    """Form of the row norm; see `lcl`."""

    def __post_init__(self) -> None:
        if self.max_rows is not None and self.max_rows < 1:
            raise ValueError(f"max_rows={self.max_rows} leaves nothing to compare; give 1 or more, or None for all")


def symmetric_terms(
    stages: Stages,
    guidance: Guidance,
    heads: GuidanceHeads,
    options: SymmetricOptions,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Compute the guidance terms of one batch, in float32 also under autocast (METHOD 1.3).

    Args:
        stages: the student's side.
        guidance: the teacher's side.
        heads: the trained projections between them.
        options: published or corrected form.
        generator: draws the rows under a row budget; the global generator when None.

    Returns:
        Scalars `bridge`, `linguistic1` to `linguistic3`, `visual1` to `visual3`, those that the teacher has a stage
        for; their sum is the guidance.

    Raises:
        ValueError: when the two sides differ in words or positions.
    """
    eps = 1e-7 if options.norm == "published" else 1e-12
    with torch.autocast(stages.word.device.type, enabled=False):
        pairs = heads(stages, guidance, chosen_rows(guidance, options, generator))
        return {
            name: lcl(student, teacher, gather_second_order=options.gather_second_order, eps=eps, norm=options.norm)
            for name, (student, teacher) in pairs.items()
        }


def chosen_rows(
    guidance: Guidance, options: SymmetricOptions, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
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
    for name in TERMS:
        kind = term_kind(name)
        if kind not in counts:
            continue
        kept = inside if kind == "linguistic" else None
        count = counts[kind] if kept is None else len(kept)
        if options.max_rows is not None and count > options.max_rows:
            device = "cpu" if generator is None else generator.device
            sample = torch.randperm(count, generator=generator, device=device)[: options.max_rows]
            sample = sample.to(guidance.mask.device)
            kept = sample if kept is None else kept[sample]
        if kept is not None:
            chosen[name] = kept
    return chosen
