"""TeacherBranch: one teacher beside the student, with the heads, the shared alphabet and the losses between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distill.training.sections import GuidanceSection, LossSection, ScheduleSection, TeacherSection
from distill.training.term_weights import check_schedule
from losses.alphabets import SharedAlphabet
from losses.heads import KINDS, GuidanceHeads
from losses.registry import BUILT_IN, BuiltLoss, LossContext, config_key, find_loss
from students.ctc import Learner
from students.errors import UserError
from students.stages import Stages
from teachers.guidance import FeatureRequest, Guidance, Part
from teachers.teacher import Teacher

PSEUDO = "pseudo"
"""The weight of words that a teacher labelled, which is scheduled like a loss."""


@dataclass(frozen=True)
class TeacherBranch:
    """One teacher of a task; the task holds its heads and its alphabet as modules."""

    teacher: Teacher
    heads: GuidanceHeads
    alphabet: SharedAlphabet | None
    """The characters that it and the student share; None for a teacher that doesn't read."""
    losses: Mapping[str, BuiltLoss]
    """The losses that it has the parts for, by name, in the order in which they are computed."""
    weight: float = 1.0
    """Multiplies all its terms."""
    prefix: str = ""
    """Begins the names of its terms, where there are several teachers."""
    shuffled: bool = False
    """Whether it gets the labels of other words, as a control."""
    stand_in: str = ""
    """A label that the teacher takes, for a batch without any such label."""

    @property
    def guides(self) -> bool:
        """Whether any term of it counts."""
        return bool(self.losses) and self.weight > 0

    def active(self, weights: Mapping[str, float]) -> dict[str, BuiltLoss]:
        """Select the losses that weigh something now; none of a teacher that weighs nothing."""
        return {name: loss for name, loss in self.losses.items() if weights[name] > 0 and self.weight > 0}

    def extract(
        self, images: Tensor, labels: Sequence[str], request: FeatureRequest, seed: int
    ) -> tuple[Guidance, Tensor | None]:
        """Compute the teacher's features.

        Args:
            images: (N, 3, H, W).
            labels: N words.
            request: the parts to compute.
            seed: shuffles the labels where that is asked for.

        Returns:
            The guidance of the words that the teacher can take, and their indices (M,) in the batch: None for all of
            them. Where it can take none, a word stands in, which `terms` multiplies by 0, and the indices are empty.
        """
        if self.shuffled:
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
            labels = [labels[index] for index in order.tolist()]
        words = [index for index, label in enumerate(labels) if self.teacher.accepts(label)]
        if len(words) == len(labels):
            return self.teacher.extract(images, labels, request), None
        indices = torch.tensor(words, dtype=torch.long, device=images.device)
        chosen, own = (words, [labels[index] for index in words]) if words else ([0], [self.stand_in])
        pictures = [request.pictures[index] for index in chosen] if request.pictures else ()
        return self.teacher.extract(images[chosen], own, FeatureRequest(request.parts, pictures)), indices

    def terms(
        self, stages: Stages, guidance: Guidance, words: Tensor | None, target_ids: Tensor,
        weights: Mapping[str, float], seed: int,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Compute its terms, weighted.

        Args:
            stages: the student's side.
            guidance: this teacher's side, of the words `words`; see `extract`.
            words: indices of the words that take part; None for all.
            target_ids: (N, L + 2) the student's ids.
            weights: by loss, as they are now.
            seed: seeds what losses draw.
        """
        scale = self.weight
        if words is not None:
            scale = scale if len(words) else 0.0
            words, positions = words if len(words) else words.new_zeros(1), guidance.mask.shape[1]
            stages = select_words(stages, words, positions)
            target_ids = target_ids[words, : positions + 1]
        context = LossContext(target_ids, self.heads, self.alphabet, torch.Generator().manual_seed(seed))
        terms: dict[str, Tensor] = {}
        for loss_name, loss in self.active(weights).items():
            found = loss.terms(stages, guidance, context)
            more = {self.prefix + name: scale * weights[loss_name] * term for name, term in found.items()}
            terms = join_terms(terms, more, f"losses.{loss_name}")
        return terms


def join_terms(terms: Mapping[str, Tensor], more: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Add the terms of another loss.

    Raises:
        UserError: when one has the name of another term, in whose place it would stand.
    """
    if twice := sorted(terms.keys() & more.keys()):
        raise UserError(f"{source} gives a term {twice[0]!r}, which there is already; give its terms other names")
    return {**terms, **more}


def make_branches(
    student: Learner, teachers: Sequence[Teacher], sections: Sequence[TeacherSection],
    losses: Mapping[str, LossSection],
) -> list[TeacherBranch]:  # fmt: skip
    """Set each teacher beside the student; the terms of several bear the teacher's name.

    Args:
        student: the reader that learns.
        teachers: what guides it.
        sections: weight and control of each.
        losses: weights and options by name.

    Raises:
        UserError: when a teacher has nothing to teach this student, or a loss needs what no teacher has.
    """
    guided = {
        name: section for name, section in losses.items()
        if section.weight > 0 and find_loss(name).needs
    }  # fmt: skip
    check_needs(teachers, list(guided))
    check_columns(student, teachers, list(guided))
    if student.shape.decoder_width == 0:
        guided.pop("linguistic", None)  # not asked for, see `check_needs`
    branches = []
    names = number_repeated([each.name for each in teachers])
    for teacher, asked, name in zip(teachers, sections, names, strict=True):
        if asked.weight < 0:
            raise UserError(f"{teacher.name} has a weight of {asked.weight}; give 0 or more")
        own = teacher.shape.charset
        alphabet = None if own is None else SharedAlphabet(student.charset, own)
        if alphabet is not None and len(alphabet.student_ids) == 1:
            raise UserError(f"{teacher.name} has no character in common with the student; set another student.charset")
        heads = GuidanceHeads(student.shape, teacher.shape)
        built = {
            name: find_loss(name).build(student.shape, teacher.shape, section.options)
            for name, section in guided.items()
            if not missing_parts(name, teacher) and comparable(name, student, teacher)
        }  # fmt: skip
        if guided and not built:
            raise UserError(
                f"{teacher.name} has no stages, only what it reads; set guidance.kd or guidance.dkd"
                if teacher.shape.charset is not None
                else f"{teacher.name} has nothing that a loss with a weight compares; set one that it has the parts for"
            )
        prefix = f"{name}/" if len(teachers) > 1 else ""
        stand_in = next((char for char in student.charset.characters if teacher.accepts(char)), None)
        if stand_in is None:
            raise UserError(
                f"{teacher.name} has a token for no character of the student's; set another student.charset"
            )
        shuffled = asked.control == "shuffled"
        branches.append(TeacherBranch(teacher, heads, alphabet, built, asked.weight, prefix, shuffled, stand_in))
    return branches


def check_needs(teachers: Sequence[Teacher], names: Sequence[str]) -> None:
    """Refuse a loss that was asked for and that no teacher has the parts for; raises `UserError`.

    The three losses that weigh 1 unless configured otherwise are not asked for: where a teacher has no such stage,
    they are left out.
    """
    for name in names:
        if name in KINDS or not teachers:
            continue
        missing = [missing_parts(name, teacher) for teacher in teachers]
        if not all(missing):
            continue
        if "characters" in missing[0]:
            raise UserError(
                f"{config_key(name)} needs a teacher that reads, and {teachers[0].name} does not; leave it 0"
            )
        raise UserError(
            f"losses.{name} needs the {' and '.join(missing[0])} of a teacher's guidance, and {teachers[0].name} has "
            f"only {', '.join(sorted(teachers[0].shape.parts)) or 'nothing'}; take another teacher, or leave it out"
        )


def check_columns(student: Learner, teachers: Sequence[Teacher], names: Sequence[str]) -> None:
    """Refuse a loss that compares columns one by one where no teacher has the student's; raises `UserError`."""
    for name in names:
        having = [teacher for teacher in teachers if not missing_parts(name, teacher)]
        if having and not any(comparable(name, student, teacher) for teacher in having):
            own, charset = having[0].shape, having[0].shape.charset
            columns = 0 if student.column_head is None else student.shape.tokens - 1
            if student.keep_aspect != having[0].keep_aspect:
                raise UserError(
                    f"losses.{name} compares column by column, and only one of {having[0].name} and the student keeps "
                    "the aspect of pictures; take guidance.kd, which asks for no equal columns"
                )
            raise UserError(
                f"losses.{name} compares column by column: {having[0].name} has {own.columns} columns over "
                f"{0 if charset is None else len(charset.characters)} characters, the student {columns} over "
                f"{len(student.charset.characters)}; take guidance.kd, which asks for neither the same columns nor "
                "the same alphabet"
            )


def comparable(name: str, student: Learner, teacher: Teacher) -> bool:
    """Tell whether a loss that compares columns, if it is one, finds the same columns and classes on both sides."""
    if "columns" not in find_loss(name).needs:
        return True
    same = teacher.shape.charset is not None and teacher.shape.charset.characters == student.charset.characters
    same = same and teacher.keep_aspect == student.keep_aspect
    return same and student.column_head is not None and teacher.shape.columns == student.shape.tokens - 1


def check_decoder(student: Learner, losses: Mapping[str, LossSection], guided: bool) -> None:
    """Refuse a loss that was asked for and that a student without a decoder can't learn by; raises `UserError`.

    Args:
        student: the reader that learns.
        losses: those of the configuration.
        guided: whether there is a teacher; without one, losses that need one are left out in any case.
    """
    asked = [name for name, section in losses.items() if section.weight > 0 and name != "linguistic"]
    for name in asked if student.shape.decoder_width == 0 else ():
        loss = find_loss(name)
        if loss.decoder and (guided or not loss.needs):
            raise UserError(
                f"{config_key(name)} compares what the student's decoder gives, and there is none; leave it 0, or set "
                "student.decoder=true"
            )


def missing_parts(name: str, teacher: Teacher) -> list[Part]:
    """List the parts of guidance that a loss needs and a teacher hasn't got."""
    return [part for part in find_loss(name).needs if part not in teacher.shape.parts]


def loss_sections(
    guidance: GuidanceSection, losses: Mapping[str, LossSection], student: Learner
) -> dict[str, LossSection]:
    """Bring the losses of `guidance` and those of `losses` into one mapping.

    Args:
        guidance: losses of the package.
        losses: further ones.
        student: the reader that learns, for `kd_head: auto`.

    Raises:
        UserError: for a loss that isn't registered, one that has its weight under `guidance`, or a schedule that
            isn't within the run, or for columns that the student hasn't got.
    """
    head = guidance.kd_head
    if head == "auto":
        head = "columns" if student.config.decoding == "ctc" else "decoder"
    elif head != "decoder" and student.column_head is None:
        raise UserError(
            f"guidance.kd_head={head}: the student has no columns to read off; take encoder conv, or decoder"
        )
    if head != "columns" and student.shape.decoder_width == 0 and guidance.kd + guidance.dkd:
        raise UserError(f"guidance.kd_head={head}: the student learns without a decoder; set columns, or auto")
    rows = {"gather_second_order": guidance.gather_second_order, "max_rows": guidance.max_rows, "norm": guidance.norm}
    options: dict[str, dict[str, Any]] = {
        "bridge": rows,
        "linguistic": {**rows, "include_padding": guidance.include_padding},
        "visual": rows,
        "kd": {"temperature": guidance.temperature, "head": head},
        "dkd": {
            "temperature": guidance.temperature, "alpha": guidance.dkd_alpha, "beta": guidance.dkd_beta, "head": head,
        },
    }  # fmt: skip
    for name in guidance.schedules:
        if name not in (*options, PSEUDO):
            listed = ", ".join((*options, PSEUDO))
            raise UserError(f"guidance.schedules.{name}: there is no such weight; give one of {listed}")
    sections = {name: scheduled(guidance, name, getattr(guidance, name), own) for name, own in options.items()}
    for name, section in losses.items():
        if name in BUILT_IN:
            raise UserError(f"losses.{name}: the weight of {name} is guidance.{name}; set it there")
        find_loss(name).check_options(section.options)
        sections[name] = section
    return sections


def pseudo_section(guidance: GuidanceSection) -> LossSection:
    """Return the weight of words that a teacher labelled, with its schedule."""
    return scheduled(guidance, PSEUDO, guidance.pseudo_label_weight, {})


def scheduled(guidance: GuidanceSection, name: str, weight: float, options: dict[str, Any]) -> LossSection:
    """Put a weight together with its schedule; raises `UserError` for one that isn't within the run."""
    schedule = guidance.schedules.get(name, ScheduleSection())
    check_schedule(schedule, f"guidance.schedules.{name}")
    return LossSection(float(weight), schedule.warmup, schedule.until, schedule.decay, options)


def select_words(stages: Stages, words: Tensor, positions: int) -> Stages:
    """Select words (M,) and the first `positions` of the decoder, where there is one, of one pass."""
    first, second, third = (tap[words] for tap in stages.encoder)
    columns = None if stages.columns is None else stages.columns[words]
    lengths = None if stages.column_lengths is None else stages.column_lengths[words]
    if stages.logits is None or stages.decoder is None:
        return Stages(None, (first, second, third), None, stages.word[words], columns, lengths)
    shallow, middle, deep = (tap[words, :positions] for tap in stages.decoder)
    logits = stages.logits[words, :positions]
    return Stages(logits, (first, second, third), (shallow, middle, deep), stages.word[words], columns, lengths)


def collect_heads(branches: Sequence[TeacherBranch], own: Mapping[str, BuiltLoss]) -> nn.ModuleDict:
    """Collect everything that is trained between student and teachers.

    Names are `0`, `1`, ... for the heads of each teacher, `0-NAME` for a loss that is a module, and `NAME` for one
    that needs no teacher.
    """
    modules: dict[str, nn.Module] = {str(number): branch.heads for number, branch in enumerate(branches)}
    for prefix, losses in [("", own), *((f"{number}-", branch.losses) for number, branch in enumerate(branches))]:
        modules |= {prefix + name: loss.module for name, loss in losses.items() if loss.module is not None}
    return nn.ModuleDict(modules)


def number_repeated(names: Sequence[str]) -> list[str]:
    """Number the names that have occurred before."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return numbered
