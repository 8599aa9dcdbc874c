"""One training of a small teacher from words to its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from distill.config import TeacherConfig, save_config
from distill.evaluation.machine import describe_machine, versions
from distill.training.contrastive import ContrastiveOptions, ContrastiveTask, score_teacher
from distill.training.run import TrainingRun, Validation, describe_processes, make_accelerator
from distill.training.run_folder import open_run_folder
from distill.training.stopping import STOPPED
from distill.training.trainer import TrainState
from distill.training.words import TrainingWords
from students.charset import Charset
from students.files import write_file
from teachers.small import SmallTeacher

CARD = """# {name}

A small CLIP of words: pictures of 32 x 128 pixels and words spelt in single characters. It sees no case: labels are
lower-cased, as CLIP's own tokenizer does.

{weights:,} weights. Step {step} of {steps}, {batch} words each, seed {seed}; words: {words}.

Closed lexicon, {count} words that were not in training, in fonts that were not either: {closed:.1f}% of the pictures
are nearest to their own word among all {count}; {near:.1f}% to their own word among nine others that are one edit away.
"""


class TeacherRun:
    """What `tools/train_teacher.py` does.

    Args:
        config: the resolved configuration.
        command: the command line, for the report.
    """

    def __init__(self, config: TeacherConfig, command: Sequence[str]) -> None:
        self.config, self.command, self.out = config, list(command), Path(config.out)
        section = config.contrastive
        options = ContrastiveOptions(
            near_misses=section.near_misses, max_edits=section.max_edits, ctc=section.ctc, columns=section.columns,
            columns_until=section.columns_until, spelling=section.spelling, seed=config.seed,
        )  # fmt: skip
        torch.manual_seed(config.seed)
        teacher = SmallTeacher() if config.init is None else SmallTeacher.load(config.init)
        self.task = ContrastiveTask(teacher, options)
        self.accelerator = make_accelerator(config.train, self.task.always_graded())
        self.console = Console(quiet=not self.accelerator.is_main_process)
        self._say(describe_processes(self.accelerator))
        sizes = teacher.config
        self.words = TrainingWords(
            config.data, Charset(sizes.characters), sizes.max_length, sizes.image_size, config.seed
        )  # fmt: skip
        self.words.check()

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def execute(self, resume: str | None, overwrite: bool) -> int:
        """Train; gives the exit code."""
        config = self.config
        self.words.prepare(self.console)
        run = TrainingRun(
            self.accelerator, self.task, self.words.batches(config.train.batch, self.accelerator), config.optim,
            config.train, config.seed, self.out, self.console, self._validate, self._keep,
        )  # fmt: skip
        if resume is not None:
            run.resume(resume)
        if self.accelerator.is_main_process:
            self._held = open_run_folder(self.out, overwrite, resume)
            save_config(config, self.out / "config.yaml")
        self.accelerator.wait_for_everyone()
        if not run.run():
            self.console.print(
                f"stopped at step {run.state.step} and saved; continue with --resume auto", highlight=False
            )
            return STOPPED
        self.console.print(
            f"teacher in {self.out / 'teacher'}: use it with teacher.name={self.out / 'teacher'}", highlight=False
        )
        return 0

    def _validate(self, weights: nn.Module, step: int) -> Validation:
        # Every process scores all words: the lexicon is the whole set, and it is small.
        if not isinstance(weights, SmallTeacher):
            raise TypeError(f"a small teacher is scored, not a {type(weights).__name__}")
        loader = self.words.whole_validation_loader()
        with self.accelerator.autocast():
            self.scores = score_teacher(weights, (batch.to(self.accelerator.device) for batch in loader))
        return Validation(self.scores.closed_lexicon, self.scores.near_miss, self.scores.words)

    def _keep(self, weights: nn.Module, result: Validation, state: TrainState) -> None:
        if not isinstance(weights, SmallTeacher):
            return
        config = self.config
        card = CARD.format(
            name=config.name, weights=sum(weight.numel() for weight in weights.parameters()), step=state.step,
            steps=config.train.steps, batch=config.train.batch * config.train.accumulation, seed=config.seed,
            words=self.words.summary, count=result.words, closed=result.accuracy, near=result.one_minus_ned,
        )  # fmt: skip
        weights.save(self.out / "teacher", card)
        report = {
            "schema": 1, "command": self.command, "machine": describe_machine(), "versions": versions(),
            "step": state.step, "seed": config.seed, "words": result.words, "closed_lexicon": result.accuracy,
            "near_miss": result.one_minus_ned,
        }  # fmt: skip
        write_file(self.out / "report.json", json.dumps(report, indent=2) + "\n")
