"""The distillation task: character loss, auxiliary losses, and the terms of one or several frozen teachers."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import Self

from distill.data.batch import Batch
from distill.training.branches import (
    PSEUDO,
    check_decoder,
    collect_heads,
    join_terms,
    loss_sections,
    make_branches,
    missing_parts,
    pseudo_section,
)
from distill.training.pseudo_labels import LabelledBatch, label_words
from distill.training.sections import AuxSection, GuidanceSection, LossSection, TeacherSection
from distill.training.stored_teacher import StoredTeacher, stored_guidance
from distill.training.task import Task, batch_seed
from distill.training.term_weights import TermWeights
from losses.heads import HEADS, KINDS
from losses.labels import character_loss, column_loss, ctc_fits, ctc_loss
from losses.registry import LossContext, config_key, find_loss
from students.ctc import Learner
from students.errors import UserError
from students.padding import stretch
from students.pictures import COLUMN
from students.stages import Stages
from students.student import guided_size
from teachers.guidance import FeatureRequest, Guidance, Part, check_guidance
from teachers.reading import ReadingTeacher
from teachers.teacher import Teacher

PSEUDO_TERMS = {"characters": "pseudo", "ctc": "pseudo_ctc"}
"""Names of the terms that learn from labels, for words that a teacher labelled."""


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
    guidance: tuple[Guidance | None, ...]
    """The stages of each teacher; None in an unguided step."""
    guided: tuple[Tensor | None, ...]
    """Indices of the words that each teacher guides; None for all."""
    weights: Mapping[str, float]
    """Weights of the losses now."""
    seed: int
    """Seeds what losses draw."""
    second: Tensor | None = None
    """(N, 3, H, W) the second view; None unless a loss compares it now."""
    stored: Guidance | None = None
    """What is stored with the words, in every step, as it costs nothing; None when nothing is."""
    pseudo_labelled: Tensor | None = None
    """(N,) bool, labelled by a teacher; None when all words had their own labels."""
    placeholder: bool = False
    """Whether the teacher was sure of no word, so that nothing counts."""


class DistillationTask(Task):
    """A student, its guidance heads and its losses; without a teacher it is the baseline's task.

    The total loss is that of docs/method.md, section 1.3.

    Args:
        student: the reader that learns.
        teachers: frozen, one or several, kept out of this module's parameters; None for no guidance.
        guidance: interval, options and weights of the built-in losses.
        aux: weights of CTC and column terms, for students with a column head.
        seed: seeds what losses draw at random.
        sections: weight and control of each teacher; 1 and none unless given.
        losses: further registered losses by name.
        stored: teach from the distributions that stand with the words too (`labels: distributions`).

    Raises:
        UserError: when a teacher can't teach this student what is asked for, or a CTC reader learns without CTC.
    """

    def __init__(
        self, student: Learner, teachers: Teacher | Sequence[Teacher] | None, guidance: GuidanceSection,
        aux: AuxSection, seed: int = 0, sections: Sequence[TeacherSection] | None = None,
        losses: Mapping[str, LossSection] | None = None, stored: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if student.config.decoding == "ctc" and aux.ctc == 0:
            raise UserError("aux.ctc=0: a student with decoding ctc learns to read by it; give a weight above 0")
        self.student = student
        given = () if teachers is None else (teachers,) if isinstance(teachers, Teacher) else tuple(teachers)
        weighted = loss_sections(guidance, losses or {}, student)
        self.weights = TermWeights({**weighted, PSEUDO: pseudo_section(guidance)})
        check_decoder(student, weighted, bool(given) or stored)
        if stored:
            check_stored(weighted)
        # A plain list hides the teachers from parameters(), state_dict(), DDP and train().
        taught = (*given, StoredTeacher(student.charset)) if stored else given
        own = [*(sections or [TeacherSection()] * len(given)), *([TeacherSection()] if stored else [])]
        branches = make_branches(student, taught, own, weighted)
        self.branches = branches[: len(given)]
        self.stored = branches[-1] if stored else None
        """The branch of stored distributions; no teacher runs for it."""
        self.own_losses = {
            name: find_loss(name).build(student.shape, None, section.options)
            for name, section in weighted.items() if section.weight > 0 and not find_loss(name).needs
        }  # fmt: skip
        """Losses that need no teacher."""
        if self.second_view and (student.column_head is None or aux.ctc == 0):
            name = next(name for name, loss in self.own_losses.items() if loss.loss.second_view)
            raise UserError(
                f"losses.{name} compares columns that learn by CTC; give the student encoder conv and aux.ctc above 0, "
                "or leave it out"
            )
        self.heads = collect_heads(branches, self.own_losses)
        self.alphabets = nn.ModuleList(each.alphabet for each in branches if each.alphabet is not None)
        self.guidance, self.aux, self.seed = guidance, aux, seed
        self._left_out_of_ctc = torch.zeros(())
        self._unlabelled = self._not_labelled = 0
        self._checked: set[tuple[Teacher, frozenset[Part]]] = set()
        """Teachers and parts of guidance that have been compared with the sizes that the teachers state."""

    @property
    def teachers(self) -> list[Teacher]:
        """The frozen teachers."""
        return [branch.teacher for branch in self.branches]

    @property
    def labeller(self) -> ReadingTeacher | None:
        """The first teacher that reads, which labels words without labels."""
        return next((teacher for teacher in self.teachers if isinstance(teacher, ReadingTeacher)), None)

    @property
    def frozen(self) -> nn.Module | None:
        """The teacher, or all of them."""
        return self.teachers[0] if len(self.branches) == 1 else nn.ModuleList(self.teachers) if self.branches else None

    @property
    def ctc_columns(self) -> int | None:
        """The student's columns of the widest picture, when it has a column head that learns by CTC."""
        if self.student.column_head is None or self.aux.ctc == 0:
            return None
        return self.student.image_size[1] // COLUMN

    @property
    def second_view(self) -> bool:
        """Whether a loss compares two augmented views of each picture."""
        return any(loss.loss.second_view for loss in self.own_losses.values())

    def exported_model(self) -> nn.Module:
        """The student, or the part of it that reads."""
        return self.student.exported_model()

    def warnings(self) -> list[str]:
        """List what teachers and losses can't teach this student, and why."""
        lines = []
        characters = self.student.charset.characters
        backwards = [char for char in characters if unicodedata.bidirectional(char) in ("R", "AL")]
        if self.ctc_columns is not None and backwards:
            lines.append(
                f"{len(backwards)} characters run from right to left ({' '.join(backwards[:9])}): CTC reads from "
                "left to right, so labels have to have them in the order in which they stand in the picture"
            )
        undecoded = not self.student.shape.decoder_width and self.weights.sections["linguistic"].weight > 0
        for branch in self.branches:
            name, lacking = branch.teacher.name, branch.teacher.lacking(characters)
            if lacking:
                lines.append(f"teacher {name} has no token for {' '.join(lacking)}: words with them learn without it")
            if branch.alphabet is not None and (lost := branch.alphabet.describe()):
                lines.append(f"teacher {name}: {lost}")
            if undecoded and not missing_parts("linguistic", branch.teacher):
                lines.append(f"the student learns without a decoder, so without the linguistic terms of teacher {name}")
        for branch in self.branches:
            if not branch.guides:
                why = "no loss that it has the parts for has a weight" if branch.weight else "its weight is 0"
                reads = ": it only labels words that have no label" if branch.teacher is self.labeller else ""
                lines.append(f"teacher {branch.teacher.name} guides nothing, {why}{reads}")
        if not self.branches and self.stored is None:
            asked = [name for name, section in self.weights.sections.items() if section.weight > 0 and name != PSEUDO]
            lines += [
                f"{config_key(name)} needs a teacher, and there is none: left out"
                # The other losses of the package weigh something unless turned off.
                for name in asked if name not in KINDS and find_loss(name).needs
            ]  # fmt: skip
        return lines

    def no_weight_decay(self) -> set[str]:
        """Name the student's positions and embeddings (docs/method.md, section 1.4)."""
        return {f"student.{name}" for name in self.student.no_weight_decay()}

    def unused_parameters(self) -> tuple[str, ...]:
        """Name the heads of losses that some steps do without, and a column head that CTC does not use."""
        constant = self.guidance.interval == 1
        ignored = [f"{number}{end}" for number, each in enumerate(self.branches) if not each.weight for end in ".-"]
        kinds = [kind for kind in HEADS if not (constant and self.weights.is_constant(kind))]
        names = [f"{number}.{part}." for number in range(len(self.branches)) for kind in kinds for part in HEADS[kind]]
        branches = [*self.branches, *([] if self.stored is None else [self.stored])]
        for prefix, losses in [("", self.own_losses), *((f"{n}-", each.losses) for n, each in enumerate(branches))]:
            every_step = constant or not prefix
            names += [f"{prefix}{name}." for name in losses if not (every_step and self.weights.is_constant(name))]
        unused = tuple(f"heads.{name}" for name in (*ignored, *names))
        return unused + (
            ("student.column_head.",) if self.student.column_head is not None and self.aux.ctc == 0 else ()
        )

    def log_metrics(self) -> dict[str, float]:
        """Return the percentages of words whose features a teacher had cached, and the words that CTC can't spell."""
        rates = {
            f"{branch.prefix}{name}_cache": cache.take_hit_rate()
            for branch in self.branches for name, cache in branch.teacher.caches.items()
        }  # fmt: skip
        metrics = {name: rate for name, rate in rates.items() if rate is not None}
        if left_out := float(self._left_out_of_ctc):
            metrics["words_without_ctc"] = left_out
            self._left_out_of_ctc = torch.zeros(())
        return metrics

    def notes(self) -> list[str]:
        """Say how many words without a label were left out since the last call, of how many."""
        left_out, asked = self._not_labelled, self._unlabelled
        self._unlabelled = self._not_labelled = 0
        if self.labeller is None or not left_out:
            return []
        why = f"{self.labeller.name} is less sure than guidance.pseudo_label_threshold="
        threshold = f"{self.guidance.pseudo_label_threshold:g}"
        return [f"{left_out:,} of {asked:,} words without a label were left out: {why}{threshold}"]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the teachers to another device or type too, although they are no part of this module."""
        for teacher in self.teachers:
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def prepare(self, batch: Batch, step: int, progress: float, part: int = 0) -> DistillationInputs:
        """Encode the labels and, in a guided step, ask the teachers for their stages."""
        labelled = self.label(batch)
        if labelled is not None:
            self._unlabelled += batch.labels.count("")
            self._not_labelled += labelled.left_out
            batch = labelled.batch
        weights = self.weights.at(progress)
        seed = batch_seed(self.seed, step, part)
        extracted: list[tuple[Guidance | None, Tensor | None]] = []
        for branch in self.branches:
            active = branch.active(weights) if step % self.guidance.interval == 0 else {}
            if not active:
                extracted.append((None, None))
                continue
            # Indices on a GPU are read back only where a teacher caches pictures by them.
            pictures = batch.pictures if "image" in branch.teacher.caches else ()
            request = FeatureRequest(frozenset(need for each in active.values() for need in each.loss.needs), pictures)
            images = self.pictures_for(batch.images, branch.teacher)
            found, guided = branch.extract(images, batch.labels, request, seed)
            if (branch.teacher, request.parts) not in self._checked:
                count = len(batch.labels) if guided is None else max(len(guided), 1)
                check_guidance(found, branch.teacher.shape, count, request, branch.teacher.name)
                self._checked.add((branch.teacher, request.parts))
            extracted.append((found, guided))
        compared = any(loss.loss.second_view and weights[name] > 0 for name, loss in self.own_losses.items())
        if compared and batch.second is None:
            raise RuntimeError("a loss compares two views, and the batch has one")
        fading = max(0.0, 1 - progress / self.aux.columns_until) if self.aux.columns_until > 0 else 0.0
        return DistillationInputs(
            images=batch.images,
            target_ids=self.student.charset.encode(batch.labels).to(batch.images.device),
            columns=batch.columns,
            column_weight=self.aux.columns * fading,
            guidance=tuple(guidance for guidance, _ in extracted),
            guided=tuple(words for _, words in extracted),
            weights=weights,
            seed=seed,
            second=batch.second if compared else None,
            stored=None if self.stored is None else stored_guidance(batch, len(self.student.charset.characters) + 1),
            pseudo_labelled=None if labelled is None else labelled.pseudo_labelled,
            placeholder=labelled is not None and labelled.placeholder,
        )

    def pictures_for(self, images: Tensor, teacher: Teacher) -> Tensor:
        """Return pictures as a teacher takes them: stretched to one size, if only the student keeps their aspect."""
        if not self.student.keep_aspect or teacher.keep_aspect:
            return images
        return stretch(images, guided_size(self.student.config))

    def label(self, batch: Batch) -> LabelledBatch | None:
        """Let a teacher read the words without labels; None when there are none."""
        if all(batch.labels):
            return None
        if self.labeller is None:
            raise RuntimeError("words without labels, and no teacher that reads")
        charset, longest = self.student.charset, self.student.config.max_length
        images = self.pictures_for(batch.images, self.labeller)
        return label_words(batch, images, self.labeller, charset, longest, self.guidance.pseudo_label_threshold)

    def forward(self, inputs: DistillationInputs) -> dict[str, Tensor]:
        """Compute `characters`, the auxiliary losses, and the terms of `losses` and teachers.

        Words that a teacher labelled have terms of their own, `pseudo` and `pseudo_ctc`.
        """
        stages, ids = self.student.stages(inputs.images, inputs.target_ids, inputs.second), inputs.target_ids
        if (pseudo_labelled := inputs.pseudo_labelled) is None:
            terms = self._character_terms(stages, ids)
        else:
            terms = self._character_terms(stages, ids, ~pseudo_labelled) if not pseudo_labelled.all() else {}
            if pseudo_labelled.any():
                weight, pseudo = inputs.weights[PSEUDO], self._character_terms(stages, ids, pseudo_labelled)
                terms |= {PSEUDO_TERMS[name]: weight * term for name, term in pseudo.items()}
        if stages.columns is not None and inputs.column_weight > 0:
            terms["columns"] = inputs.column_weight * column_loss(stages.columns, inputs.columns, stages.column_lengths)
        generator = torch.Generator().manual_seed(inputs.seed)
        context = LossContext(inputs.target_ids, generator=generator, second_columns=stages.second_columns)
        for loss_name, loss in self.own_losses.items():
            if (weight := inputs.weights[loss_name]) > 0:
                more = {name: weight * term for name, term in loss.terms(stages, None, context).items()}
                terms = join_terms(terms, more, f"losses.{loss_name}")
        for branch, guidance, words in zip(self.branches, inputs.guidance, inputs.guided, strict=True):
            if guidance is not None:
                more = branch.terms(stages, guidance, words, inputs.target_ids, inputs.weights, inputs.seed)
                terms = join_terms(terms, more, branch.teacher.name)
        if self.stored is not None and inputs.stored is not None:
            more = self.stored.terms(stages, inputs.stored, None, inputs.target_ids, inputs.weights, inputs.seed)
            terms = join_terms(terms, more, "stored distributions")
        # Multiplied by 0, not left out: every weight gets a gradient, every process makes the same collective calls.
        return {name: 0 * term for name, term in terms.items()} if inputs.placeholder else terms

    def _character_terms(self, stages: Stages, target_ids: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        """Compute `characters` and `ctc`, on the words of a (N,) mask when there is one.

        With the columns of a second view, `ctc` is the mean over both.
        """
        logits, columns, ids, lengths = stages.logits, stages.columns, target_ids, stages.column_lengths
        if rows is not None:
            logits, columns, lengths = (None if each is None else each[rows] for each in (logits, columns, lengths))
            ids = ids[rows]
        charset = self.student.charset
        terms = {} if logits is None else {"characters": character_loss(logits, ids, charset.pad_id)}
        characters = len(charset.characters)
        if columns is not None and self.aux.ctc > 0:
            widths = columns.shape[1] if lengths is None else lengths
            self._left_out_of_ctc = self._left_out_of_ctc + (~ctc_fits(ids, characters, widths)).sum()
            ctc = ctc_loss(columns, ids, characters, lengths)
            if (second := stages.second_columns) is not None:
                ctc = (ctc + ctc_loss(second if rows is None else second[rows], ids, characters, lengths)) / 2
            terms["ctc"] = self.aux.ctc * ctc
        return terms


def check_stored(sections: Mapping[str, LossSection]) -> None:
    """Refuse stored distributions that no loss learns from; raises `UserError`."""
    if not any(section.weight > 0 and "characters" in find_loss(name).needs for name, section in sections.items()):
        raise UserError(
            "labels: distributions needs a loss that learns from them; set guidance.kd or guidance.dkd above 0, or "
            "labels: own"
        )
