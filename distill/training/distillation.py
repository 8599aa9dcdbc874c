"""The distillation task: character loss, training aux, and the guidance terms of one or several frozen teachers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from distill.config import AuxSection, GuidanceSection
from distill.data.batch import Batch
from distill.training.guides import make_guides
from distill.training.task import Task, batch_seed
from distill.training.term_weights import TermWeights
from losses.heads import HEADS
from students.charset import Charset
from students.errors import UserError
from students.stages import Stages
from students.student import Student
from teachers.guidance import FeatureRequest, Guidance
from teachers.reading import ReadingTeacher
from teachers.teacher import Teacher

PSEUDO = {"characters": "pseudo", "ctc": "pseudo_ctc"}
"""What the terms of labels are called for words that a teacher labelled."""


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
    guidance: tuple[Guidance, ...]
    """The stages of each teacher; none in an unguided step."""
    weights: Mapping[str, float]
    """Weights of the kinds of guidance terms now."""
    seed: int
    """Draws the rows under a row budget."""
    read: Tensor | None = None
    """(N,) bool, labelled by a teacher; None when all words had their own labels."""
    idle: bool = False
    """Whether the teacher was sure of no word, so that nothing counts."""


@dataclass(frozen=True)
class LabelledBatch:
    """A batch in which every word has a label."""

    batch: Batch
    """Without the words that the teacher wasn't sure of."""
    read: Tensor
    """(N,) bool: labelled by the teacher."""
    idle: bool
    """Whether no word was left: one stands in then that must not count."""


class DistillationTask(Task):
    """A student, its guidance heads, and the total loss of METHOD 1.3; without a teacher it is the baseline's task.

    Args:
        student: the reader that learns.
        teachers: one frozen guide or several, kept out of this module's parameters; None for no guidance.
        guidance: cadence, budget and weights of the guidance terms.
        aux: weights of CTC and column terms, for students with a column head.
        seed: seeds the choice of rows under a row budget.
        weights: what multiplies the terms of each teacher; 1 unless given.
        shuffled: which teachers are told the labels of other words, as a control; none unless given.

    Raises:
        UserError: when a teacher can't teach this student what is asked for, or a CTC reader learns without CTC.
    """

    def __init__(
        self, student: Student, teachers: Teacher | Sequence[Teacher] | None, guidance: GuidanceSection,
        aux: AuxSection, seed: int = 0, weights: Sequence[float] | None = None,
        shuffled: Sequence[bool] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if student.config.decoding == "ctc" and aux.ctc == 0:
            raise UserError("aux.ctc=0: a student with decoding ctc learns to read by it; give a weight above 0")
        self.student = student
        given = () if teachers is None else (teachers,) if isinstance(teachers, Teacher) else tuple(teachers)
        # A plain list hides the teachers from parameters(), state_dict(), DDP and train().
        self.guides = make_guides(
            student, given, weights or [1.0] * len(given), shuffled or [False] * len(given), guidance
        )
        self.heads = self.guides[0].heads if self.guides else None
        self.other_heads = nn.ModuleList(guide.heads for guide in self.guides[1:])
        self.alphabets = nn.ModuleList(guide.alphabet for guide in self.guides if guide.alphabet is not None)
        self.guidance, self.aux, self.seed = guidance, aux, seed
        self.weights = TermWeights(guidance)

    @property
    def teachers(self) -> list[Teacher]:
        """The frozen guides."""
        return [guide.teacher for guide in self.guides]

    @property
    def reader(self) -> ReadingTeacher | None:
        """The first teacher that reads, which labels words without labels."""
        return next((teacher for teacher in self.teachers if isinstance(teacher, ReadingTeacher)), None)

    @property
    def frozen(self) -> nn.Module | None:
        """The teacher, or all of them."""
        return self.teachers[0] if len(self.guides) == 1 else nn.ModuleList(self.teachers) if self.guides else None

    def exported_model(self) -> nn.Module:
        """What is handed out of the student."""
        return self.student.exported_model()

    def warnings(self) -> list[str]:
        """Say what the student will not be told by its teachers, for want of characters."""
        lost = {guide.teacher.name: guide.alphabet.describe() for guide in self.guides if guide.alphabet is not None}
        return [f"teacher {name}: {told}" for name, told in lost.items() if told]

    def no_weight_decay(self) -> set[str]:
        """Name the student's positions and embeddings (METHOD 1.4)."""
        return {f"student.{name}" for name in self.student.no_weight_decay()}

    def unused_parameters(self) -> tuple[str, ...]:
        """Name the heads of terms that some steps do without, and a column head that CTC does not use."""
        is_constant = {kind for kind in HEADS if self.guidance.interval == 1 and self.weights.is_constant(kind)}
        unused_parameters = [f"{name}." for kind, names in HEADS.items() if kind not in is_constant for name in names]
        numbers = range(len(self.guides) - 1)
        places = ["heads.", *(f"other_heads.{number}." for number in numbers)] if self.guides else []
        heads = tuple(place + name for place in places for name in unused_parameters)
        return heads + (("student.column_head.",) if self.student.column_head is not None and self.aux.ctc == 0 else ())

    def log_metrics(self) -> dict[str, float]:
        """Give the percentage of words whose stages a teacher still had."""
        rates = {
            f"{guide.prefix}{name}_cache": cache.take_rate()
            for guide in self.guides for name, cache in guide.teacher.kept.items()
        }  # fmt: skip
        return {name: rate for name, rate in rates.items() if rate is not None}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Take the teachers along to another device, although they are no part of this module."""
        for teacher in self.teachers:
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def prepare(self, batch: Batch, step: int, progress: float, part: int = 0) -> DistillationInputs:
        """Encode the labels and, in a guided step, ask the teachers for their stages."""
        found = self.label(batch)
        batch = batch if found is None else found.batch
        weights = self.weights.at(progress)
        kinds = {kind for guide in self.guides for kind in guide.kinds(self.guidance) if weights[kind] > 0}
        guided = bool(kinds) and step % self.guidance.interval == 0
        # Positions on a GPU are read back only where a teacher keeps pictures by them.
        kept = guided and any("image" in teacher.kept for teacher in self.teachers)
        pictures = batch.pictures if kept else ()
        wanted = FeatureRequest("visual" in kinds, "linguistic" in kinds, "bridge" in kinds, pictures)
        guides = self.guides if guided else []
        seed = batch_seed(self.seed, step, part)
        fading = max(0.0, 1 - progress / self.aux.columns_until) if self.aux.columns_until > 0 else 0.0
        return DistillationInputs(
            images=batch.images,
            target_ids=self.student.charset.encode(batch.labels).to(batch.images.device),
            columns=batch.columns,
            column_weight=self.aux.columns * fading,
            guidance=tuple(guide.extract(batch.images, batch.labels, wanted, seed) for guide in guides),
            weights=weights,
            seed=seed,
            read=None if found is None else found.read,
            idle=found is not None and found.idle,
        )

    def label(self, batch: Batch) -> LabelledBatch | None:
        """Let a teacher read the words without labels; None when there are none."""
        if all(batch.labels):
            return None
        if self.reader is None:
            raise RuntimeError("words without labels, and no teacher that reads")
        charset, longest = self.student.charset, self.student.config.max_length
        return label_words(batch, self.reader, charset, longest, self.guidance.pseudo_label_threshold)

    def forward(self, inputs: DistillationInputs) -> dict[str, Tensor]:
        """Compute `characters`, the aux, and in a guided step the guidance terms.

        Words that a teacher labelled have terms of their own, `pseudo` and `pseudo_ctc`.
        """
        stages = self.student.stages(inputs.images, inputs.target_ids)
        if inputs.read is None:
            terms = self._character_terms(stages, inputs.target_ids)
        else:
            terms = self._character_terms(stages, inputs.target_ids, ~inputs.read) if not inputs.read.all() else {}
            if inputs.read.any():
                found = self._character_terms(stages, inputs.target_ids, inputs.read)
                weight = inputs.weights["pseudo"]
                terms |= {PSEUDO[name]: weight * term for name, term in found.items()}
        if stages.columns is not None and inputs.column_weight > 0:
            terms["columns"] = inputs.column_weight * column_loss(stages.columns, inputs.columns)
        for guide, guidance in zip(self.guides, inputs.guidance, strict=False):
            terms |= guide.terms(stages, guidance, inputs.target_ids, self.guidance, inputs.weights, inputs.seed)
        # Times 0 rather than left out: every weight gets its gradient, and every process its collective calls.
        return {name: 0 * term for name, term in terms.items()} if inputs.idle else terms

    def _character_terms(self, stages: Stages, target_ids: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        """Compute `characters` and `ctc`, on the words of a (N,) mask when there is one."""
        logits, columns, ids = stages.logits, stages.columns, target_ids
        if rows is not None:
            logits, columns, ids = logits[rows], None if columns is None else columns[rows], ids[rows]
        terms = {"characters": character_loss(logits, ids, self.student.charset.pad_id)}
        if columns is not None and self.aux.ctc > 0:
            terms["ctc"] = self.aux.ctc * ctc_loss(columns, ids, len(self.student.charset.characters))
        return terms


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


def label_words(
    batch: Batch, teacher: ReadingTeacher, charset: Charset, max_length: int, confidence: float
) -> LabelledBatch:
    """Let a teacher label the words of a batch that have no label.

    What it reads goes through the label rules of the student's alphabet, as any label does. A word is left out when
    the teacher is less sure of it than `confidence`, found no end to it, or nothing is left of its reading.

    Args:
        batch: words, those without a label with "".
        teacher: reads them.
        charset: the student's alphabet.
        max_length: the student's longest word.
        confidence: least product of the probabilities of a word's characters and its end.
    """
    unknown = [place for place, label in enumerate(batch.labels) if not label]
    labels: dict[int, str] = {place: label for place, label in enumerate(batch.labels) if label}
    for place, reading in zip(unknown, teacher.read_batch(batch.images[unknown]), strict=True):
        cleaned = charset.clean(reading.text, max_length)
        ended = len(reading.text) <= teacher.reader.max_length
        if cleaned is not None and ended and reading.confidence >= confidence:
            labels[place] = cleaned
    idle = not labels
    if idle:  # every process takes part in every step, so a word stands in: any label will do
        labels = {0: charset.characters[0]}
    kept = sorted(labels)
    read = torch.tensor([place in set(unknown) for place in kept], device=batch.images.device)
    return LabelledBatch(batch.select(kept, [labels[place] for place in kept]), read, idle)
