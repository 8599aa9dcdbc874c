"""TeacherBranch: one teacher beside the student, with the heads and the shared alphabet between them, and its terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.config import GuidanceSection
from losses.alphabets import SharedAlphabet
from losses.heads import GuidanceHeads, term_kind
from losses.readings import ReadingOptions, reading_terms
from losses.symmetric import SymmetricOptions, symmetric_terms
from students.errors import UserError
from students.stages import Stages
from students.student import Student
from teachers.guidance import FeatureRequest, Guidance
from teachers.teacher import Teacher


@dataclass(frozen=True)
class TeacherBranch:
    """One teacher of a task; the task holds its heads and its alphabet as modules."""

    teacher: Teacher
    heads: GuidanceHeads
    alphabet: SharedAlphabet | None
    """The characters that it and the student share; None for a teacher that doesn't read."""
    weight: float = 1.0
    """Multiplies all its terms."""
    prefix: str = ""
    """What its terms' names begin with, where there are several teachers."""
    shuffled: bool = False
    """Whether it is told the labels of other words, as a control."""

    def kinds(self, guidance: GuidanceSection) -> list[str]:
        """Name the kinds of terms that it gives."""
        shape = self.teacher.shape
        sizes = {"bridge": shape.joint_width, "linguistic": shape.text_width, "visual": shape.image_width}
        reads = [kind for kind in ("kd", "dkd") if self.alphabet is not None and getattr(guidance, kind) > 0]
        return [kind for kind, size in sizes.items() if size] + reads

    def extract(self, images: Tensor, labels: Sequence[str], wanted: FeatureRequest, seed: int) -> Guidance:
        """Ask the teacher for its stages; `seed` shuffles the labels where that is asked for."""
        if self.shuffled:
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
            labels = [labels[place] for place in order.tolist()]
        return self.teacher.guide(images, labels, wanted)

    def terms(
        self, stages: Stages, guidance: Guidance, target_ids: Tensor, switches: GuidanceSection,
        weights: Mapping[str, float], seed: int,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Compute its terms, weighted.

        Args:
            stages: the student's side.
            guidance: this teacher's side.
            target_ids: (N, L + 2) the student's ids.
            switches: which terms, and their forms.
            weights: by kind of term, as they are now.
            seed: draws the rows under a row budget.
        """
        options = SymmetricOptions(
            switches.include_padding, switches.gather_second_order, switches.max_rows, switches.norm
        )
        chosen = torch.Generator().manual_seed(seed)
        terms = symmetric_terms(stages, guidance, self.heads, options, chosen)
        if self.alphabet is not None and (switches.kd > 0 or switches.dkd > 0):
            forms = ReadingOptions(
                switches.kd > 0, switches.dkd > 0, switches.temperature, switches.dkd_alpha, switches.dkd_beta
            )
            terms |= reading_terms(stages, guidance, target_ids, self.alphabet, forms)
        return {self.prefix + name: self.weight * weights[term_kind(name)] * term for name, term in terms.items()}


def make_guides(
    student: Student, teachers: Sequence[Teacher], weights: Sequence[float], shuffled: Sequence[bool],
    guidance: GuidanceSection,
) -> list[TeacherBranch]:  # fmt: skip
    """Set each teacher beside the student; of several the terms bear the teacher's name.

    Raises:
        UserError: when a teacher has nothing to teach this student, or none reads where one has to.
    """
    if teachers and all(teacher.shape.charset is None for teacher in teachers):
        asked = next((kind for kind in ("kd", "dkd") if getattr(guidance, kind) > 0), None)
        if asked is not None:
            raise UserError(f"guidance.{asked} needs a teacher that reads, and {teachers[0].name} does not; leave it 0")
    if guidance.temperature <= 0:
        raise UserError(f"guidance.temperature={guidance.temperature}; give a number above 0, such as 4")
    guides = []
    names = distinct([each.name for each in teachers])
    for teacher, weight, mixed, name in zip(teachers, weights, shuffled, names, strict=True):
        if weight < 0:
            raise UserError(f"{teacher.name} has a weight of {weight}; give 0 or more")
        own = teacher.shape.charset
        alphabet = None if own is None else SharedAlphabet(student.charset, own)
        if alphabet is not None and len(alphabet.student_ids) == 1:
            raise UserError(f"{teacher.name} has no character in common with the student; set another student.charset")
        guide = TeacherBranch(
            teacher, GuidanceHeads(student.shape, teacher.shape), alphabet, weight,
            f"{name}/" if len(teachers) > 1 else "", mixed,
        )  # fmt: skip
        if not guide.kinds(guidance):
            raise UserError(f"{teacher.name} shows no stages, only what it reads; set guidance.kd or guidance.dkd")
        guides.append(guide)
    return guides


def distinct(names: Sequence[str]) -> list[str]:
    """Number names that stand there before."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return found
