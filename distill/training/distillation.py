"""The distillation task: character loss, training aids, and the seven guidance terms of a frozen teacher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from distill.config import AidsSection, GuidanceSection
from distill.data.batch import Batch
from distill.training.task import Task
from losses.heads import GuidanceHeads
from losses.symmetric import SymmetricOptions, symmetric_terms
from students.stages import Stages
from students.student import Student
from teachers.clip import ClipTeacher
from teachers.guidance import Guidance


@dataclass(frozen=True)
class DistillationInputs:
    """One batch as the trainable side takes it."""

    images: Tensor
    """(N, 3, H, W)."""
    target_ids: Tensor
    """(N, L + 2) start, characters, end, padding."""
    columns: Tensor
    """(N, 32) character id under each column, 0 between, -1 unknown."""
    column_weight: float
    """Weight of the column term now."""
    guidance: Guidance | None
    """The teacher's stages; None in an unguided step."""
    step: int
    """Batches consumed before this one; seeds the choice of rows."""


class DistillationTask(Task):
    """A student, its guidance heads, and the total loss of METHOD 1.3; without a teacher it is the twin's task.

    Args:
        student: the reader that learns.
        teacher: the frozen guide, kept out of this module's parameters; None for no guidance.
        guidance: cadence, budget and weights of the guidance terms.
        aids: weights of CTC and column terms, for students with a column head.
        seed: seeds the choice of rows under a row budget.
    """

    def __init__(
        self, student: Student, teacher: ClipTeacher | None, guidance: GuidanceSection, aids: AidsSection, seed: int = 0
    ) -> None:
        super().__init__()
        self.student = student
        self.heads = GuidanceHeads(student.shape, teacher.shape) if teacher is not None else None
        # A plain tuple hides the teacher from parameters(), state_dict(), DDP and train().
        self._teacher = (teacher,)
        self.guidance, self.aids, self.seed = guidance, aids, seed
        self.options = SymmetricOptions(
            padding=guidance.padding, second_order=guidance.second_order, rows=guidance.rows
        )

    @property
    def teacher(self) -> ClipTeacher | None:
        """The frozen guide."""
        return self._teacher[0]

    @property
    def frozen(self) -> nn.Module | None:
        """The teacher."""
        return self.teacher

    @property
    def deliverable(self) -> nn.Module:
        """The student."""
        return self.student

    def no_weight_decay(self) -> set[str]:
        """Name the student's positions and embeddings (METHOD 1.4)."""
        return {f"student.{name}" for name in self.student.no_weight_decay()}

    def resting(self) -> tuple[str, ...]:
        """Name the heads when there are steps between two guided ones, and a column head that CTC does not use."""
        heads = ("heads.",) if self.heads is not None and self.guidance.every > 1 else ()
        return heads + (
            ("student.column_head.",) if self.student.column_head is not None and self.aids.ctc == 0 else ()
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Take the teacher along to another device, although it is no part of this module."""
        if self.teacher is not None:
            self.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def prepare(self, batch: Batch, step: int, progress: float) -> DistillationInputs:
        """Encode the labels and, in a guided step, ask the teacher for its stages."""
        guided = self.teacher is not None and step % self.guidance.every == 0
        fading = max(0.0, 1 - progress / self.aids.columns_until) if self.aids.columns_until > 0 else 0.0
        return DistillationInputs(
            images=batch.images,
            target_ids=self.student.charset.encode(batch.labels).to(batch.images.device),
            columns=batch.columns,
            column_weight=self.aids.columns * fading,
            guidance=self.teacher(batch.images, batch.labels) if guided and self.teacher is not None else None,
            step=step,
        )

    def forward(self, inputs: DistillationInputs) -> dict[str, Tensor]:
        """Compute `characters`, the aids, and in a guided step the seven guidance terms."""
        stages = self.student.stages(inputs.images, inputs.target_ids)
        terms = {"characters": character_loss(stages.logits, inputs.target_ids, self.student.charset.pad_id)}
        if stages.columns is not None and self.aids.ctc > 0:
            terms["ctc"] = self.aids.ctc * ctc_loss(
                stages.columns, inputs.target_ids, len(self.student.charset.characters)
            )
        if stages.columns is not None and inputs.column_weight > 0:
            terms["columns"] = inputs.column_weight * column_loss(stages.columns, inputs.columns)
        if inputs.guidance is not None:
            terms |= self._guidance_terms(stages, inputs.guidance, inputs.step)
        return terms

    def _guidance_terms(self, stages: Stages, guidance: Guidance, step: int) -> dict[str, Tensor]:
        if self.heads is None:
            raise RuntimeError("guidance without heads")
        chosen = torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        terms = symmetric_terms(stages, guidance, self.heads, self.options, chosen)
        weights = {
            "linguistic": self.guidance.linguistic, "visual": self.guidance.visual, "bridge": self.guidance.bridge,
        }  # fmt: skip
        return {name: weights[name.rstrip("123")] * term for name, term in terms.items()}


def character_loss(logits: Tensor, target_ids: Tensor, pad_id: int) -> Tensor:
    """Cross-entropy of (N, T, C + 1) logits against (N, T + 1) ids, mean over tokens, padding ignored (METHOD 1.3)."""
    return F.cross_entropy(logits.float().flatten(0, 1), target_ids[:, 1:].flatten(), ignore_index=pad_id)


def ctc_loss(columns: Tensor, target_ids: Tensor, characters: int) -> Tensor:
    """CTC of (N, W, C + 1) column logits (blank 0), mean over characters; words that can't fit are left out."""
    inside = (target_ids >= 1) & (target_ids <= characters)
    lengths = inside.sum(dim=1)
    log_probs = columns.float().log_softmax(dim=-1).transpose(0, 1)
    widths = torch.full((columns.shape[0],), columns.shape[1], dtype=torch.long)
    return F.ctc_loss(log_probs, target_ids[inside], widths, lengths.cpu(), blank=0, zero_infinity=True)


def column_loss(columns: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of (N, W, C + 1) column logits against (N, W) ids; -1 is unknown and left out.

    A batch that knows no column gives 0, not the NaN of an empty mean.
    """
    losses = F.cross_entropy(columns.float().flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")
    return losses / (targets >= 0).sum().clamp(min=1)
