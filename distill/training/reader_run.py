"""One training of a teacher that reads."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from distill.config import TeacherConfig
from distill.deployment.card import Card
from distill.deployment.folder import save_folder
from distill.evaluation.gallery import draw_gallery
from distill.evaluation.validation import validate
from distill.training.clip4str_building import build_clip4str
from distill.training.parseq_building import build_parseq
from distill.training.run import Validation
from distill.training.starting import Say
from distill.training.task import Task
from distill.training.teacher_run import TeacherRun
from distill.training.trainer import TrainState
from students.charset import Charset
from students.reading import Reader

TASKS: dict[str, Callable[[TeacherConfig, Say], Task]] = {"clip4str": build_clip4str, "parseq": build_parseq}
"""Builders of what is trained, by `kind`; the exported model of each task is a `students.reading.Reader`."""


class ReaderRun(TeacherRun):
    """Train a reader and keep its best weights."""

    def build_task(self) -> Task:
        """Build the task of the configured kind."""
        return TASKS[self.config.kind](self.config, self.remarks.append)

    def reads(self) -> tuple[Charset, int, tuple[int, int]]:
        """Ask for words of the reader's alphabet."""
        reader = self.task.exported_model()
        if not isinstance(reader, Reader):
            raise TypeError(f"a reader is trained, not a {type(reader).__name__}")
        return reader.charset, reader.max_length, reader.image_size

    def validate(self, weights: nn.Module, step: int) -> Validation:
        """Read the validation words."""
        if not isinstance(weights, Reader):
            raise TypeError(f"a reader is validated, not a {type(weights).__name__}")
        result = validate(
            weights.read_batch, self.words.validation_loader(self.accelerator), weights.charset, self.accelerator,
            size=len(self.words.validation),
        )  # fmt: skip
        if self.run.tracker is not None and result.samples:
            self.run.tracker.picture(step, "words", draw_gallery(result.samples))
        return Validation(result.accuracy, result.one_minus_ned, result.words)

    def keep(self, weights: nn.Module, result: Validation, state: TrainState) -> None:
        """Write folder and card."""
        if isinstance(weights, Reader):
            config = self.config
            training = (
                f"Step {state.step} of {config.train.steps}, {config.train.batch_size * config.train.grad_accum} words "
                f"each on {self.accelerator.num_processes} process(es), seed {config.seed}; {result.accuracy:.2f}% of "
                f"{result.words} validation words right. Words: {self.words.summary}."
            )
            save_folder(weights, self.folder, Card(config.name, training=training), overwrite=True)
