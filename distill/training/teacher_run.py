"""Training of a teacher from a configuration to its folder: a small CLIP of words, or a model that reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from torch import nn

from distill.config import differences
from distill.evaluation.report import describe_machine, versions
from distill.evaluation.validation import Validation
from distill.schema import TeacherConfig
from distill.training.accelerator import own_process_state
from distill.training.clip4str import build_clip4str
from distill.training.contrastive import ContrastiveTask, score_teacher
from distill.training.permuted import build_parseq
from distill.training.run import TrainingRun
from distill.training.run_folder import check_run_folder
from distill.training.task import Task
from students.charset import Charset
from students.errors import UserError
from students.files import write_file
from teachers.names import resolve
from teachers.small import FORMAT as SMALL_TEACHER
from teachers.small import SmallTeacher

BUILDERS = {"clip4str": build_clip4str, "parseq": build_parseq}
"""Builders of the tasks of teachers that read, by `kind`; their exported model is a `students.reading.Reader`."""

CARD = """# {name}

A small CLIP of words: pictures of 32 x 128 pixels and words spelt in single characters. It sees no case: labels are
lower-cased, as CLIP's own tokenizer does.

{weights:,} weights. Step {step} of {steps}, {batch} words each, seed {seed}; words: {words}.

Closed lexicon, {count} words that were not in training, in fonts that were not either: {closed:.1f}% of the pictures
are nearest to their own word among all {count}; {near:.1f}% to their own word among nine others that are one edit away.
"""


@dataclasses.dataclass(frozen=True)
class TeacherResult:
    """The outcome of a teacher's training."""

    folder: Path
    """The run's folder."""
    finished: bool
    """False when the run was asked to stop; it has saved then, and goes on with `resume="auto"`."""
    step: int
    """Optimizer steps done."""

    @property
    def teacher(self) -> Path:
        """The teacher's own folder, for `teacher.name`."""
        return self.folder / "teacher"


def train_teacher(
    config: TeacherConfig, resume: str | None = None, overwrite: bool = False, command: Sequence[str] = (),
    console: Console | None = None,
) -> TeacherResult:  # fmt: skip
    """Train a teacher; arguments, stopping and errors as for `distill.training.distill_run.distill`."""
    check_run_folder(config, resume, overwrite)
    if config.kind == "clip" and config.init is None and not config.contrastive.train_text:
        raise UserError(
            "contrastive.train_text=false moves pictures to the words of init, and there is none; set init, or leave it"
        )
    if config.remap and (config.init is None or config.kind == "clip"):
        raise UserError("remap changes the charset of a CLIP4STR or PARSeq to start from; set init, or leave remap out")
    with own_process_state():
        run = (ContrastiveRun if config.kind == "clip" else TeacherRun)(config, command, console)
        if foreign := foreign_keys(config):
            run.log(f"without effect on a teacher of kind {config.kind}: {', '.join(foreign)}")
        finished = run.execute(resume, overwrite)
        return TeacherResult(run.out, finished, run.state.step)


def foreign_keys(config: TeacherConfig) -> list[str]:
    """List the keys that are set in sections of other kinds of teachers."""
    own = {"clip": {"contrastive"}, "clip4str": {"clip4str", "permutations"}, "parseq": {"parseq", "permutations"}}
    sections = set().union(*own.values()) - own[config.kind]
    return [
        f"{name}.{key}" for name in sorted(sections)
        for key, _, _ in differences(type(getattr(config, name))(), getattr(config, name))
    ]  # fmt: skip


class TeacherRun(TrainingRun[TeacherConfig]):
    """The run of a teacher that reads."""

    exported = "teacher"

    def build_task(self, log: Callable[[str], None]) -> Task:
        """Build the task of the configured kind."""
        return BUILDERS[self.config.kind](self.config, log)

    def after_training(self, finished: bool) -> bool:
        """Log where the teacher is."""
        if finished:
            folder = self.out / self.exported
            self.log(f"teacher in {folder}: use it with teacher.name={folder}")
        return finished


class ContrastiveRun(TeacherRun):
    """The run of a small CLIP of words, trained contrastively."""

    task: ContrastiveTask

    def build_task(self, log: Callable[[str], None]) -> ContrastiveTask:
        """Build the small teacher, or load the one to start from."""
        teacher = SmallTeacher() if self.config.init is None else load_small(self.config.init)
        return ContrastiveTask(teacher, self.config.contrastive, self.config.seed)

    def word_format(self) -> tuple[Charset, int, tuple[int, int]]:
        """Return the teacher's vocabulary, longest word and picture size."""
        sizes = self.task.teacher.config
        return Charset(sizes.characters), sizes.max_length, sizes.image_size

    def validate(self, model: nn.Module, step: int) -> Validation:
        """Score by closed lexicon, and against hard negatives."""
        # Every process scores all words: the lexicon is the whole set, and it is small.
        teacher = as_small_teacher(model)
        loader = self.data.validation_loader()
        with self.accelerator.autocast():
            scores = score_teacher(teacher, (batch.to(self.accelerator.device) for batch in loader))
        metrics = {"hard_negative_accuracy": scores.hard_negative}
        return Validation(scores.closed_lexicon, scores.words, metrics, "closed-lexicon accuracy")

    def save_best(self, model: nn.Module, result: Validation) -> None:
        """Write folder, card and report."""
        teacher = as_small_teacher(model)
        config, step, near = self.config, self.state.step, result.metrics["hard_negative_accuracy"]
        card = CARD.format(
            name=config.name, weights=sum(weight.numel() for weight in teacher.parameters()), step=step,
            steps=config.train.steps, batch=config.train.batch_size * config.train.grad_accum, seed=config.seed,
            words=self.data.summary, count=result.words, closed=result.accuracy, near=near,
        )  # fmt: skip
        teacher.save(self.out / self.exported, card)
        report = {
            "schema": 1, "command": self.command, "machine": describe_machine(), "versions": versions(), "step": step,
            "seed": config.seed, "words": result.words, "closed_lexicon": result.accuracy, "hard_negative": near,
        }  # fmt: skip
        write_file(self.out / "report.json", json.dumps(report, indent=2) + "\n")


def as_small_teacher(model: nn.Module) -> SmallTeacher:
    """Return the model that a contrastive run trains; raises `TypeError`."""
    if not isinstance(model, SmallTeacher):
        raise TypeError(f"a small teacher is trained, not a {type(model).__name__}")
    return model


def load_small(name: str) -> SmallTeacher:
    """Load the small teacher to start from: `words-small`, or a folder.

    Raises:
        UserError: when there is none.
    """
    found = resolve(name)
    if found.format != SMALL_TEACHER:
        raise UserError(f"init={name} is no small CLIP of words, which kind=clip trains; give words-small or a folder")
    return SmallTeacher.load(found.path, found.stored)
