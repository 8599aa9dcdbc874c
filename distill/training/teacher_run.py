"""One training of a teacher from words to its folder; what is trained is the subclass's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from distill.config import TeacherConfig, save_config
from distill.data.module import DataModule
from distill.training.run import TrainingRun, Validation, describe_processes, make_accelerator
from distill.training.run_folder import open_run_folder
from distill.training.stopping import STOPPED
from distill.training.task import Task
from distill.training.trainer import TrainState
from students.charset import Charset


class TeacherRun(ABC):
    """What `tools/train_teacher.py` does.

    Args:
        config: the resolved configuration.
        command: the command line, for the report.
    """

    def __init__(self, config: TeacherConfig, command: Sequence[str]) -> None:
        self.config, self.command, self.out = config, list(command), Path(config.out)
        self.remarks: list[str] = []
        torch.manual_seed(config.seed)
        self.task = self.build_task()
        self.accelerator = make_accelerator(config.train, self.task.always_graded())
        self.console = Console(quiet=not self.accelerator.is_main_process)
        for line in [describe_processes(self.accelerator), *self.remarks]:
            self._say(line)
        self.words = DataModule(config.data, *self.reads(), config.seed)
        self.words.check()

    @abstractmethod
    def build_task(self) -> Task:
        """Build what is trained, with `remarks` for the user; torch's global generator is seeded."""

    @abstractmethod
    def reads(self) -> tuple[Charset, int, tuple[int, int]]:
        """Say what words are asked for: their alphabet, the longest one, height and width of the pictures."""

    @abstractmethod
    def validate(self, weights: nn.Module, step: int) -> Validation:
        """Score the weights; called by every process."""

    @abstractmethod
    def keep(self, weights: nn.Module, result: Validation, state: TrainState) -> None:
        """Write the weights into the folder `teacher/`; called by the main process."""

    @property
    def folder(self) -> Path:
        """Where the teacher goes."""
        return self.out / "teacher"

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def execute(self, resume: str | None, overwrite: bool) -> int:
        """Train; gives the exit code."""
        config = self.config
        self.words.prepare(self.console)
        self.run = run = TrainingRun(
            self.accelerator, self.task, self.words.batches(config.train.batch_size, self.accelerator), config.optim,
            config.train, config.seed, self.out, self.console, self.validate, self.keep,
        )  # fmt: skip
        if resume is not None:
            run.resume(resume)
        if self.accelerator.is_main_process:
            self._held = open_run_folder(self.out, overwrite, resume)
            save_config(config, self.out / "config.yaml")
        self.accelerator.wait_for_everyone()
        if not run.run():
            self._say(f"stopped at step {run.state.step} and saved; continue with --resume auto")
            return STOPPED
        self._say(f"teacher in {self.folder}: use it with teacher.name={self.folder}")
        return 0
