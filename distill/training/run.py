"""A training run: from a task and its words to trained weights, with checkpoints, validation and logs on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from rich.console import Console
from torch import nn

from distill.config import OptimSection, TrainSection
from distill.data.batch import Batch
from distill.processes import leave_with_others
from distill.training.checkpoint import CheckpointKeeper, load_checkpoint
from distill.training.ema import WeightAverage
from distill.training.optim import adamw, build_schedule
from distill.training.precision import choose_precision
from distill.training.progress import TrainingProgress
from distill.training.sharding import Whole, check_splitting, splits_weights
from distill.training.stopping import StopRequest
from distill.training.task import Task
from distill.training.tracking import Tracker
from distill.training.trainer import Loop, StepReport, TrainState, train
from students.errors import UserError


@dataclass(frozen=True)
class Validation:
    """One validation: what is kept of it in logs and for choosing the best weights."""

    accuracy: float
    """Words right, percent."""
    one_minus_ned: float
    """1-NED, percent."""
    words: int
    """Words validated, over all processes."""


Validate = Callable[[nn.Module, int], Validation]
"""Validate a exported model at a step; called by every process."""


def make_accelerator(train: TrainSection, all_weights_graded: bool = True) -> Accelerator:
    """Build the accelerator of a run and set its thread count and kernels.

    Raises:
        UserError: for a precision that the machine does not compute in.
    """
    if train.threads > 0:
        torch.set_num_threads(train.threads)
    if train.deterministic:
        torch.use_deterministic_algorithms(True)
    precision = choose_precision(train.precision)
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            gradient_accumulation_steps=train.grad_accum,
            step_scheduler_with_optimizer=False,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=not all_weights_graded)],
        )
    except ValueError as error:
        if precision == "no":
            raise
        raise UserError(
            f"train.precision={precision} can't be had here ({error}); take no, bf16, or auto for what the machine has"
        ) from None
    leave_with_others()
    check_splitting(accelerator)
    return accelerator


def describe_processes(accelerator: Accelerator) -> str:
    """Say how many processes train, on what, in which precision: launchers differ in what they start."""
    count, threads = accelerator.num_processes, torch.get_num_threads()
    split = ", weights split over them (FSDP)" if splits_weights(accelerator) else ""
    return (
        f"world size {count}: {count} process{'es' if count > 1 else ''} on {accelerator.device.type}, "
        f"{threads} CPU thread{'s' if threads > 1 else ''} each, precision {accelerator.mixed_precision}{split}"
    )


class TrainingRun:
    """Train a task: everything around the loop.

    Args:
        accelerator: as `make_accelerator` built it.
        task: what is learned.
        batches: endless batches of this process from the k-th on.
        optim: optimizer and schedule.
        train: the loop.
        seed: the run's seed; model weights are made before, by the caller.
        out: the run's folder, which must exist when `run` is called.
        console: where progress goes.
        validate: called every `train.validate_every` steps and at the end.
        save_best: writes the exported model when a validation is the best so far (main process only).
    """

    def __init__(
        self, accelerator: Accelerator, task: Task, batches: Callable[[int], Iterator[Batch]], optim: OptimSection,
        train: TrainSection, seed: int, out: Path, console: Console, validate: Validate,
        save_best: Callable[[nn.Module, Validation, TrainState], None],
    ) -> None:  # fmt: skip
        self.accelerator, self.task, self.batches = accelerator, task, batches
        self.settings, self.out, self.console = train, out, console
        self._validate, self._save_best = validate, save_best
        self.peak = optim.lr
        if optim.scale_lr:
            self.peak = task.learning_rate(optim.lr, train.grad_accum, accelerator.num_processes, train.batch_size)
        optimizer = adamw(
            task.parameter_groups(self.peak, optim.weight_decay), lr=self.peak, betas=(optim.beta1, optim.beta2),
            eps=optim.eps,
        )  # fmt: skip
        self.schedule = build_schedule(optimizer, train.steps, optim.warmup, optim.schedule)
        self.whole = Whole(task.exported_model(), splits_weights(accelerator))
        self.model, self.optimizer = accelerator.prepare(task, optimizer)
        self.whole.module.to(accelerator.device)
        self.average = WeightAverage(self.whole.module, optim.ema) if optim.ema > 0 else None
        self.state = TrainState()
        self.clip = optim.grad_clip
        accelerator.register_for_checkpointing(self.state, self.schedule)
        if self.average is not None:
            accelerator.register_for_checkpointing(self.average)
        # Weights were made alike on every process; from here on dropout differs between them.
        set_seed(seed, device_specific=True)
        self.keeper = CheckpointKeeper(out / "checkpoints", train.keep)
        self._saved_step = -1

    def weights(self) -> nn.Module:
        """Give the exported model as it is now, averaged when averaging is on; every process calls it."""
        return self.average.module if self.average is not None else self.whole.gather()

    def resume(self, wanted: str) -> None:
        """Take up `auto` (the latest checkpoint, or none yet) or a checkpoint folder."""
        found = self.keeper.find(wanted)
        if found is not None:
            load_checkpoint(self.accelerator, found)
            self._saved_step = self.state.step
            if found.parent.resolve() != self.keeper.folder.resolve():
                self.state.best_accuracy = -1.0  # the best weights of then lie in the other run's folder
            if self.accelerator.is_main_process:
                self.console.print(f"resumed {found} at step {self.state.step}", highlight=False, soft_wrap=True)

    def run(self) -> bool:
        """Train to the end, or until told to stop; says whether the end was reached.

        Afterwards every process is alone: the group that they formed is given up, so none waits for another any more.
        """
        main = self.accelerator.is_main_process
        self.tracker = Tracker(self.out, self.state.step) if main else None
        before, started = self.state.seconds, time.monotonic()
        self._clock = lambda: before + time.monotonic() - started
        with (
            StopRequest() as stop,
            TrainingProgress(
                self.console, self.settings.steps, self.state.step, main, self.out / "log.txt"
            ) as self.progress,
        ):
            self.task.train()
            loop = Loop(
                self.accelerator, self.task, self.model, self.optimizer, self.schedule, self.average, self.whole.gather,
                self.batches, self.settings.steps, self.clip, self._after_step, stop,
            )  # fmt: skip
            try:
                train(loop, self.state)
            except UserError:
                self._save_what_is_there()
                raise
            finished = self.state.step >= self.settings.steps
            self._save()
        if self.tracker is not None:
            self.tracker.close()
        self.accelerator.end_training()
        return finished

    def _save_what_is_there(self) -> None:
        """Save before leaving because of words that can't be read, so that no step is lost once they are mended."""
        whole = self.state.batches == self.state.step * self.settings.grad_accum
        if whole and self.state.step > 0 and self.accelerator.num_processes == 1:  # others would not come to save too
            self._save()

    def _save(self) -> None:
        if self._saved_step != self.state.step:
            self.state.seconds = self._clock()
            self.keeper.save(self.accelerator, self.state.step)
            self._saved_step = self.state.step

    def _after_step(self, state: TrainState, report: StepReport) -> None:
        settings, last = self.settings, state.step == self.settings.steps
        say = last or state.step % settings.log_every == 0
        words = report.words * self.accelerator.num_processes
        figures = self.task.log_metrics() if say else {}
        self.progress.step(state.step, report.loss, words, say, figures)
        if say and self.tracker is not None:
            rates = {"gradient_norm": report.gradient_norm, "learning_rate": report.learning_rate}
            speed = {"words_per_second": self.progress.words_per_second, "seconds": self._clock()}
            self.tracker.log(state.step, "train", {"loss": report.loss, **report.terms, **rates, **speed})
            self.tracker.watch(state.step, "teacher", figures)
        if last or state.step % settings.validate_every == 0:
            self._validate_now(state)
        if not last and state.step % settings.checkpoint_every == 0:
            self._save()

    def _validate_now(self, state: TrainState) -> None:
        weights = self.weights()
        was_training = weights.training
        weights.eval()
        if self.accelerator.num_processes > 1:
            # Each BatchNorm saw its own process's words in the last step; what is validated is what is delivered.
            for buffer in weights.buffers():
                torch.distributed.broadcast(buffer, src=0)
        result = self._validate(weights, state.step)
        if result.accuracy > state.best_accuracy or self.settings.select == "last":
            state.best_accuracy, state.best_step = result.accuracy, state.step
            if self.accelerator.is_main_process:
                self._save_best(weights, result, state)
        weights.train(was_training)
        self.progress.validated(state.step, result.accuracy, result.one_minus_ned)
        if self.tracker is not None:
            row = {"accuracy": result.accuracy, "one_minus_ned": result.one_minus_ned, "words": float(result.words)}
            self.tracker.log(state.step, "validation", row)
