"""Heads between student and teacher: projections, norms and row mixing, which exist in training only.

Source: METHOD 1.3 (CLIP-OCR, arXiv 2310.04999).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from students.stages import Stages, StudentShape
from teachers.guidance import Guidance, TeacherShape

TERMS = ("bridge", "linguistic1", "linguistic2", "linguistic3", "visual1", "visual2", "visual3")
"""The seven comparisons, by name."""
HEADS = {
    "bridge": ("word_embed",),
    "linguistic": ("align_head", "norm_head"),
    "visual": ("align_proj", "align_head_vis", "norm_head_vis"),
}
"""What each kind of comparison has of `GuidanceHeads`."""


class GuidanceHeads(nn.Module):
    """Bring a student's stages and a teacher's guidance to rows that can be compared (METHOD 1.3).

    What the teacher hasn't got has no heads. Parameters carry the published names with a dot before the number, see
    `published_name`.

    Args:
        student: sizes of the student's stages.
        teacher: sizes of the teacher's guidance.
    """

    def __init__(self, student: StudentShape, teacher: TeacherShape) -> None:
        super().__init__()
        texts, images = (range(3 if width else 0) for width in (teacher.text_width, teacher.image_width))
        self.align_head = nn.ModuleList(_projection(student.decoder_width, teacher.text_width) for _ in texts)
        self.norm_head = nn.ModuleList(nn.LayerNorm(teacher.text_width) for _ in texts)
        self.align_proj = nn.ParameterList(
            torch.full((1, teacher.image_tokens, student.tokens), 1 / student.tokens) for _ in images
        )
        self.align_head_vis = nn.ModuleList(_projection(student.width, teacher.image_width) for _ in images)
        self.norm_head_vis = nn.ModuleList(nn.LayerNorm(teacher.image_width) for _ in images)
        self.word_embed = _word_projection(student.width, teacher.joint_width) if teacher.joint_width else None
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)

    def forward(
        self, stages: Stages, guidance: Guidance, rows: Mapping[str, Tensor] | None = None
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Pair the rows of both sides for each of the `TERMS` that the teacher has a stage for.

        Rows are (word, position) pairs, word by word: N * T of the linguistic terms, N * teacher tokens of the visual
        ones, N of the bridge.

        Args:
            stages: the student's side.
            guidance: the teacher's side.
            rows: for a term's name, the indices (R,) of the rows to take on both sides; a term not named takes all.

        Returns:
            For each term the student's and the teacher's rows, each (R, C).

        Raises:
            ValueError: when the two sides differ in words or positions.
        """
        positions, expected = stages.decoder[0].shape[:2], guidance.mask.shape
        if positions != expected:
            raise ValueError(f"{(*positions,)} words and positions of the student don't line up with {(*expected,)}")
        chosen = rows or {}
        pairs = {}
        # Taps under autocast, or of a teacher in half precision, may have another type than the heads.
        dtype = next((weight.dtype for weight in self.parameters()), torch.float32)
        if self.word_embed is not None and guidance.word is not None:
            picked = chosen.get("bridge")
            pairs["bridge"] = self.word_embed(_take(stages.word.to(dtype), picked)), _take(guidance.word, picked)
        for k, tap in enumerate(guidance.text or ()):
            picked = chosen.get(f"linguistic{k + 1}")
            pairs[f"linguistic{k + 1}"] = (
                self.align_head[k](_take(stages.decoder[k].to(dtype), picked)),
                self.norm_head[k](_take(tap.to(dtype), picked)),
            )
        for k, tap in enumerate(guidance.image or ()):
            picked = chosen.get(f"visual{k + 1}")
            mixed = self.align_proj[k] @ stages.encoder[k].to(dtype)
            pairs[f"visual{k + 1}"] = (
                self.align_head_vis[k](_take(mixed, picked)),
                self.norm_head_vis[k](_take(tap.to(dtype), picked)),
            )
        return pairs


def term_kind(name: str) -> str:
    """Give the kind of one of the `TERMS`: `bridge`, `linguistic` or `visual`."""
    return name.rstrip("123")


def published_name(name: str) -> str:
    """Give a parameter of `GuidanceHeads` its published name: `align_head.0.1.bias` is `align_head0.1.bias` there.

    Names of other parameters come back as they are.
    """
    return re.sub(r"^(align_head|norm_head|align_proj|align_head_vis|norm_head_vis)\.(\d)", r"\1\2", name)


def _projection(width: int, target_width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, target_width), nn.LayerNorm(target_width))


def _word_projection(width: int, joint_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, joint_width)
    )  # fmt: skip


def _take(taps: Tensor, picked: Tensor | None) -> Tensor:
    """Flatten (N, T, C) or (N, C) taps to rows and take the picked ones."""
    rows = taps.flatten(0, -2)
    return rows if picked is None else rows.index_select(0, picked)
