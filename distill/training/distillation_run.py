"""One distillation from words to report: render, train student and twin, export, compare."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from distill.config import Config, save_config
from distill.training.building import build_task
from distill.training.layer_map import gradient_shares, layer_map
from distill.training.run import TrainingRun, Validation, describe_processes, make_accelerator
from distill.training.run_folder import open_run_folder
from distill.training.stopping import STOPPED
from distill.training.trainer import TrainState
from distill.training.words import TrainingWords
from students.student import Student


class DistillationRun:
    """What `tools/distill.py` does.

    Args:
        config: the resolved configuration.
        command: the command line, for the report.
    """

    def __init__(self, config: Config, command: Sequence[str]) -> None:
        self.config, self.command = config, list(command)
        self.out = Path(config.out)
        resting = config.teacher.name is not None and config.guidance.every > 1
        self.accelerator = make_accelerator(config.train, all_weights_graded=not (resting or config.aids.ctc == 0))
        self.console = Console(quiet=not self.accelerator.is_main_process, stderr=False)
        self.seconds: dict[str, float] = {}
        self._say(describe_processes(self.accelerator))
        self.task = build_task(config)
        self.words = TrainingWords(config.data, self.task.student.charset, config.student.max_length, config.seed)
        self.words.check()

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def dry_run(self) -> None:
        """Print layer map, parameter counts and the first step's loss terms with their gradient shares."""
        self._prepare_words()
        task, student = self.task, self.task.student
        batch = next(self.words.batches(self.config.train.batch, self.accelerator)(0))
        if task.teacher is not None:
            self.console.print(layer_map(task, batch))
        self._say(f"student: {student.parameters_count:,} weights, {len(student.charset.characters)} characters")
        if task.heads is not None and task.teacher is not None:
            self._say(f"heads, in training only: {sum(part.numel() for part in task.heads.parameters()):,} weights")
            self._say(f"teacher {task.teacher.name}: {sum(part.numel() for part in task.teacher.parameters()):,} weights, frozen")
        task.train()
        with torch.no_grad():
            inputs = task.prepare(batch, 0, 0.0)
        for name, (value, share) in gradient_shares(task, task(inputs)).items():
            self._say(f"{name:12} {value:9.4f}  gradient share {100 * share:5.1f}%")

    def execute(self, resume: str | None, overwrite: bool) -> int:
        """Run everything; gives the exit code."""
        if self.accelerator.is_main_process:
            open_run_folder(self.out, overwrite, resume)
            save_config(self.config, self.out / "config.yaml")
        self.accelerator.wait_for_everyone()
        self._prepare_words()
        twin = self._start_twin(resume)
        run = TrainingRun(
            self.accelerator, self.task, self.words.batches(self.config.train.batch, self.accelerator),
            self.config.optim, self.config.train, self.config.seed, self.out, self.console, self._validate, self._keep,
        )  # fmt: skip
        if resume is not None:
            run.resume(resume)
        finished = run.run()
        self.seconds["train"] = run.state.seconds
        if not finished:
            if twin is not None:
                twin.terminate()
                twin.wait()
            self._say(f"stopped at step {run.state.step} and saved; continue with --resume auto")
            return STOPPED
        if twin is not None and twin.wait() != 0:
            raise RuntimeError(f"the twin's run ended with code {twin.returncode}; see {self.out / 'twin' / 'log.txt'}")
        if self.accelerator.is_main_process:
            self._deliver(run)
        self.accelerator.wait_for_everyone()
        return 0

    def _prepare_words(self) -> None:
        started = time.monotonic()
        if self.accelerator.is_main_process:
            self.words.render(self.console)
        self.accelerator.wait_for_everyone()
        self.words.open(self.console, self.accelerator.is_main_process)
        self.seconds["words"] = time.monotonic() - started
