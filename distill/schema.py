"""The two configurations: a distillation and the training of a teacher; their sections stand beside what reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from distill.data.sections import DataSection
from distill.training.sections import (
    AuxSection,
    EvalSection,
    GuidanceSection,
    LossSection,
    OptimSection,
    StudentSection,
    TeacherSection,
    TrainSection,
)
from distill.training.teacher_sections import (
    Clip4StrSection,
    ContrastiveSection,
    ParseqSection,
    PermutationsSection,
)


@dataclass
class Config:
    """A run of `distill`."""

    name: str = "distilled"
    """Name of the student, on its card and in tables."""
    out: str = "runs/distilled"
    """The run's folder."""
    seed: int = field(default=0, metadata={"least": 0, "most": 4_000_000_000})
    """The seed that every stream of random numbers is derived from."""
    plugins: list[str] = field(default_factory=list)
    """Python files or modules that register losses, teachers or readers; imported before anything is looked up."""
    student: StudentSection = field(default_factory=StudentSection)
    """The reader that learns."""
    teacher: TeacherSection = field(default_factory=TeacherSection)
    """The frozen teacher."""
    teachers: list[TeacherSection] = field(default_factory=list)
    """Several teachers instead of `teacher`; each entry has the keys of `teacher`."""
    guidance: GuidanceSection = field(default_factory=GuidanceSection)
    """How teachers guide the student."""
    losses: dict[str, LossSection] = field(default_factory=dict)
    """Further losses that are registered, by name: `NAME: 0.5`, or a section with a weight, a schedule and options."""
    aux: AuxSection = field(default_factory=AuxSection)
    """Auxiliary losses on the encoder's columns."""
    data: DataSection = field(default_factory=DataSection)
    """Words to learn from and to validate on."""
    optim: OptimSection = field(default_factory=OptimSection)
    """Optimizer and schedule."""
    train: TrainSection = field(default_factory=TrainSection)
    """The training loop."""
    eval: EvalSection = field(default_factory=EvalSection)
    """The comparison and export at the end."""


@dataclass
class TeacherConfig:
    """A run of `train_teacher`."""

    kind: Literal["clip", "clip4str", "parseq"] = "clip"
    """What is trained: a small CLIP of words (contrastively), a CLIP that reads, or a PARSeq."""
    name: str = "teacher"
    """Name of the teacher, on its card."""
    out: str = "runs/teacher"
    """The run's folder."""
    init: str | None = None
    """Folder of a teacher of this kind to start from, with its own sizes; null starts anew, or from a CLIP."""
    remap: bool = False
    """Change the reader of `init` to the `charset` and `max_length` of its section."""
    seed: int = field(default=0, metadata={"least": 0, "most": 4_000_000_000})
    """The seed that every stream of random numbers is derived from."""
    contrastive: ContrastiveSection = field(default_factory=ContrastiveSection)
    """The objective of kind clip."""
    clip4str: Clip4StrSection = field(default_factory=Clip4StrSection)
    """The reader of kind clip4str."""
    parseq: ParseqSection = field(default_factory=ParseqSection)
    """The reader of kind parseq."""
    permutations: PermutationsSection = field(default_factory=PermutationsSection)
    """Permuted orders of kinds that read."""
    data: DataSection = field(default_factory=DataSection)
    """Words to learn from and to validate on."""
    optim: OptimSection = field(default_factory=OptimSection)
    """Optimizer and schedule."""
    train: TrainSection = field(default_factory=TrainSection)
    """The training loop."""
