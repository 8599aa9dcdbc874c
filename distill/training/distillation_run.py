"""One distillation from words to report: render, train student and baseline, export, compare."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from torch import nn

from distill.config import Config, save_config
from distill.data.module import DataModule
from distill.deployment.card import Card
from distill.deployment.folder import save_folder
from distill.evaluation.benchmarks import locate_benchmarks, open_benchmarks
from distill.evaluation.gallery import draw_gallery
from distill.evaluation.teachers import teacher_reader
from distill.evaluation.validation import validate
from distill.training.baseline import Baseline
from distill.training.building import build_task
from distill.training.delivery import Delivery
from distill.training.layer_map import gradient_shares, layer_map
from distill.training.run import TrainingRun, Validation, describe_processes, make_accelerator
from distill.training.run_folder import open_run_folder
from distill.training.stopping import STOPPED
from distill.training.trainer import TrainState
from students.charset import Charset
from students.errors import UserError
from students.reading import Reader


class DistillationRun:
    """What `tools/distill.py` does.

    Args:
        config: the resolved configuration.
        command: the command line, for the report.
    """

    def __init__(self, config: Config, command: Sequence[str]) -> None:
        self.config, self.command = config, list(command)
        self.out = Path(config.out)
        remarks: list[str] = []
        self.task = build_task(config, remarks.append)
        self.accelerator = make_accelerator(config.train, self.task.always_graded())
        self.console = Console(quiet=not self.accelerator.is_main_process, stderr=False)
        self.seconds: dict[str, float] = {}
        self._say(describe_processes(self.accelerator))
        for remark in [*remarks, *self.task.warnings()]:
            self._say(remark)
        student = self.task.student
        self.words = DataModule(
            config.data, student.charset, student.config.max_length, student.image_size, config.seed
        )
        self.words.check(teacher_reads=self.task.reader is not None)
        self._check_comparison()

    def _check_comparison(self) -> None:
        """Find out now, not after hours of training, what the comparison at the end would refuse.

        Raises:
            UserError: for a test set, training tree or alphabet that isn't there, or a teacher that can't be scored.
        """
        wanted, data = self.config.eval, self.config.data
        if wanted.baseline and data.synthetic.words == 0 and all(source.labels == "pseudo" for source in data.train):
            raise UserError("a baseline can't learn from words that only the teacher reads; set eval.baseline=false")
        charset = self.task.student.charset if wanted.charset is None else Charset.load(wanted.charset)
        if self._test is not None and wanted.test is None and wanted.charset is None:
            locate_benchmarks(self._test, wanted.benchmarks)  # validation words: their loader reads their labels
        elif self._test is not None:
            open_benchmarks(self._test, wanted.benchmarks, charset)
        for teacher in self.task.teachers if wanted.teacher else ():
            teacher_reader(teacher, charset)
        if self._searched is not None and not self._searched.is_dir():
            raise UserError(f"{self._searched}: no such folder to search for test words; mend eval.train_root")

    @property
    def _test(self) -> Path | None:
        """What is compared on; None for the rendered test words."""
        chosen = self.config.eval.test or self.config.data.validation
        return None if chosen is None else self.words.place(chosen)

    @property
    def _searched(self) -> Path | None:
        """Training words that the overlap check searches; None leaves it out."""
        against = self.config.eval.train_root
        return None if against is None else self.words.place(against)

    def _say(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def dry_run(self) -> None:
        """Print layer map, parameter counts and the first step's terms with their gradient shares; keep nothing."""
        with tempfile.TemporaryDirectory() as scratch:
            self.words.rehearse(Path(scratch))
            self._prepare_words()
            self._show_first_step()

    def _show_first_step(self) -> None:
        task, student = self.task, self.task.student
        batch = next(self.words.batches(self.config.train.batch_size, self.accelerator)(0))
        labelled = task.label(batch)
        for number in range(len(task.guides)):
            self.console.print(layer_map(task, batch if labelled is None else labelled.batch, number))
        delivered = student.exported_model().parameters_count
        self._say(f"student: {delivered:,} weights, {len(student.charset.characters)} characters")
        if delivered < student.parameters_count:
            self._say(f"its decoder, in training only: {student.parameters_count - delivered:,} weights")
        for guide in task.guides:
            name, frozen = guide.teacher.name, sum(part.numel() for part in guide.teacher.parameters())
            heads = sum(part.numel() for part in guide.heads.parameters())
            self._say(f"teacher {name}: {frozen:,} weights, frozen; heads, in training only: {heads:,} weights")
        task.train()
        with torch.no_grad():
            inputs = task.prepare(batch, 0, 0.0)
        for name, (value, share) in gradient_shares(task, task(inputs)).items():
            self._say(f"{name:12} {value:9.4f}  gradient share {100 * share:5.1f}%")

    def execute(self, resume: str | None, overwrite: bool) -> int:
        """Run everything; gives the exit code."""
        self._prepare_words()
        self.run = run = TrainingRun(
            self.accelerator, self.task, self.words.batches(self.config.train.batch_size, self.accelerator),
            self.config.optim, self.config.train, self.config.seed, self.out, self.console, self._validate, self._keep,
        )  # fmt: skip
        if resume is not None:
            run.resume(resume)
        # Nothing is written or removed before all that may refuse has been built.
        if self.accelerator.is_main_process:
            self._held = open_run_folder(self.out, overwrite, resume)
            save_config(self.config, self.out / "config.yaml")
        self.accelerator.wait_for_everyone()
        baseline = self._start_baseline()
        try:
            finished = run.run()
        except BaseException:
            if baseline is not None:
                baseline.terminate()  # it saves, and goes on when the student's run is resumed
            raise
        self.seconds["train"] = run.state.seconds
        if not self.accelerator.is_main_process:  # what follows takes long, and is not done together
            return 0 if finished else STOPPED
        if baseline is not None and not finished:
            baseline.stop()
        elif baseline is not None:
            finished = baseline.wait()
        if not finished:
            self._say(f"stopped at step {run.state.step} and saved; continue with --resume auto")
            return STOPPED
        self._deliver()
        return 0

    def _prepare_words(self) -> None:
        started = time.monotonic()
        self.words.prepare(self.console)
        self.seconds["words"] = time.monotonic() - started

    def _start_baseline(self) -> Baseline | None:
        """Train the baseline beside the student, unless none is wanted or it has been trained before."""
        baseline = Baseline(self.config, self.accelerator.num_processes, self.run.peak)
        if not self.config.eval.baseline or baseline.finished or not self.accelerator.is_main_process:
            return None
        self._say(f"training the baseline beside it, without a teacher; what it says goes to {baseline.said}")
        baseline.start()
        return baseline

    def _validate(self, weights: nn.Module, step: int) -> Validation:
        if not isinstance(weights, Reader):
            raise TypeError(f"a reader is validated, not a {type(weights).__name__}")
        result = validate(
            weights.read_batch, self.words.validation_loader(self.accelerator), weights.charset, self.accelerator,
            size=len(self.words.validation),
        )  # fmt: skip
        if self.run.tracker is not None and result.samples:
            self.run.tracker.picture(step, "words", draw_gallery(result.samples))
        return Validation(result.accuracy, result.one_minus_ned, result.words)

    def _keep(self, weights: nn.Module, result: Validation, state: TrainState) -> None:
        if isinstance(weights, Reader):
            card = Card(self.config.name, training=self._training(state.step))
            save_folder(weights, self.out / "student", card, overwrite=True)

    def _training(self, step: int) -> str:
        config, names = self.config, ", ".join(f"`{teacher.name}`" for teacher in self.task.teachers)
        guided = f"guided by {names} every {config.guidance.interval} steps" if names else "without a teacher"
        return (
            f"Step {step} of {config.train.steps}, {config.train.batch_size * config.train.grad_accum} words each on "
            f"{self.accelerator.num_processes} process(es), seed {config.seed}, {guided}. Words: {self.words.summary}."
        )

    def _deliver(self) -> None:
        """Export the best weights, compare them with baseline and teacher, and write the report."""
        delivery = Delivery(self.config, self.command, self._training(self.run.state.best_step), self.seconds)
        delivery.deliver(
            self.task.teachers, self._test or self.words.synthetic_folders[1], self._searched, self.console
        )
