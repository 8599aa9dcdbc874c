"""One training of a small CLIP of words."""

from __future__ import annotations

import json

from torch import nn

from distill.evaluation.machine import describe_machine, versions
from distill.training.contrastive import ContrastiveOptions, ContrastiveTask, score_teacher
from distill.training.run import Validation
from distill.training.teacher_run import TeacherRun
from distill.training.trainer import TrainState
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


class ContrastiveRun(TeacherRun):
    """Train a small CLIP of words contrastively."""

    def build_task(self) -> ContrastiveTask:
        """Build the small teacher, or load the one to start from."""
        config, section = self.config, self.config.contrastive
        options = ContrastiveOptions(
            hard_negatives=section.hard_negatives, max_edits=section.max_edits, ctc=section.ctc,
            columns=section.columns,
            columns_until=section.columns_until, spelling=section.spelling, text_queue=section.text_queue,
            train_text=section.train_text, seed=config.seed,
        )  # fmt: skip
        self.teacher = SmallTeacher() if config.init is None else SmallTeacher.load(config.init)
        return ContrastiveTask(self.teacher, options)

    def reads(self) -> tuple[Charset, int, tuple[int, int]]:
        """Ask for words of the teacher's vocabulary."""
        sizes = self.teacher.config
        return Charset(sizes.characters), sizes.max_length, sizes.image_size

    def validate(self, weights: nn.Module, step: int) -> Validation:
        """Score by closed lexicon."""
        # Every process scores all words: the lexicon is the whole set, and it is small.
        if not isinstance(weights, SmallTeacher):
            raise TypeError(f"a small teacher is scored, not a {type(weights).__name__}")
        loader = self.words.whole_validation_loader()
        with self.accelerator.autocast():
            self.scores = score_teacher(weights, (batch.to(self.accelerator.device) for batch in loader))
        return Validation(self.scores.closed_lexicon, self.scores.hard_negative, self.scores.words)

    def keep(self, weights: nn.Module, result: Validation, state: TrainState) -> None:
        """Write folder, card and report."""
        if not isinstance(weights, SmallTeacher):
            return
        config = self.config
        card = CARD.format(
            name=config.name, weights=sum(weight.numel() for weight in weights.parameters()), step=state.step,
            steps=config.train.steps, batch=config.train.batch_size * config.train.grad_accum, seed=config.seed,
            words=self.words.summary, count=result.words, closed=result.accuracy, near=result.one_minus_ned,
        )  # fmt: skip
        weights.save(self.folder, card)
        report = {
            "schema": 1, "command": self.command, "machine": describe_machine(), "versions": versions(),
            "step": state.step, "seed": config.seed, "words": result.words, "closed_lexicon": result.accuracy,
            "hard_negative": result.one_minus_ned,
        }  # fmt: skip
        write_file(self.out / "report.json", json.dumps(report, indent=2) + "\n")
