"""The run: everything around the training loop, from a configuration to a folder with trained weights."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Generic, TypeVar

import torch
from accelerate.utils import set_seed
from rich.console import Console
from torch import nn

from distill.config import save_config
from distill.data.batch import Batch
from distill.data.module import DataModule
from distill.data.progress import print_lines
from distill.deployment.card import Card
from distill.deployment.folder import save_folder
from distill.evaluation.gallery import draw_gallery
from distill.evaluation.validation import Validation, validate
from distill.schema import Config, TeacherConfig
from distill.training.accelerator import GatheredModel, describe_processes, make_accelerator, splits_weights
from distill.training.checkpoint import CheckpointKeeper, check_alphabet, describe_differences, load_checkpoint
from distill.training.ema import WeightAverage
from distill.training.optim import ConfiguredRates, build_optimizer, build_schedule
from distill.training.progress import Tracker, TrainingProgress
from distill.training.run_folder import describe_changes, find_changes, open_run_folder, validates
from distill.training.stopping import StoppedError, StopRequest
from distill.training.task import Task
from distill.training.trainer import Loop, NonFiniteLossError, StepReport, TrainState, train
from students.charset import Charset
from students.errors import UserError
from students.reading import Reader

Settings = TypeVar("Settings", Config, TeacherConfig)
"""The configuration of a run."""


class TrainingRun(ABC, Generic[Settings]):
    """One training, from its words to the folder of its best weights; subclasses say what is trained.

    Whatever may be refused is refused before the run's folder is touched: when the run is built, or by `execute`
    before the first step. Use it within `own_process_state`.

    Args:
        config: the resolved configuration.
        command: the command line, for the report.
        console: where lines go; None for standard output, of the main process only.
    """

    task: Task
    """What is trained."""
    exported = "student"
    """Name of the folder, within the run's, that the best weights are written to."""

    def __init__(self, config: Settings, command: Sequence[str] = (), console: Console | None = None) -> None:
        self.config: Settings = config
        self.command, self.out = list(command), Path(config.out)
        notes: list[str] = []
        torch.manual_seed(config.seed)
        self.task = self.build_task(notes.append)
        self.accelerator = make_accelerator(config.train, self.task.find_unused_parameters())
        self.console = console or Console()
        self.console.quiet = self.console.quiet or not self.accelerator.is_main_process
        for line in [describe_processes(self.accelerator), *notes]:
            self.log(line)
        self.state = TrainState()
        self.tracker: Tracker | None = None
        self.seconds: dict[str, float] = {}
        """Wall time by part."""
        self.observed: dict[str, dict[str, float]] = {}
        """Numbers of the running step that are not measured in every one, by group."""
        self.data = self.build_data()
        self.check()

    # What differs between runs.

    @abstractmethod
    def build_task(self, log: Callable[[str], None]) -> Task:
        """Build what is trained; torch's global generator is seeded. `log` takes lines for the user."""

    def word_format(self) -> tuple[Charset, int, tuple[int, int]]:
        """Return alphabet, longest word, and height and width of pictures that the model takes."""
        reader = as_reader(self.task.exported_model())
        return reader.charset, reader.max_length, reader.image_size

    def check(self) -> None:
        """Refuse what can't be trained or scored; raises `UserError`."""
        self.data.check()

    def validate(self, model: nn.Module, step: int) -> Validation:
        """Read the validation words; called by every process with the exported model."""
        reader = as_reader(model)
        result = validate(
            reader.read_batch, self.data.validation_loader(self.accelerator), reader.charset, self.accelerator,
            size=len(self.data.validation),
        )  # fmt: skip
        if self.tracker is not None and result.samples:
            self.tracker.picture(step, "words", draw_gallery(result.samples))
        return result

    def save_best(self, model: nn.Module, result: Validation) -> None:
        """Write the exported model and its card; called by the main process when a validation is the best so far."""
        card = self.card(self.training_note(self.state.step, result))
        save_folder(as_reader(model), self.out / self.exported, card, overwrite=True)

    def card(self, training: str) -> Card:
        """Return what the exported model's card says of its training and its terms."""
        return Card(self.config.name, training)

    def before_backward(self, step: int, terms: dict[str, torch.Tensor]) -> None:
        """Look at the terms of a step's first batch before they are learned from; called by every process.

        What is put into `observed` is logged with the step.
        """

    def before_training(self) -> None:
        """Start what runs beside the training; the run's folder is open."""

    def after_failure(self) -> None:
        """End what runs beside the training, which ended in an exception."""

    def after_training(self, finished: bool) -> bool:
        """Do what follows, on the main process alone; returns whether all of it is finished."""
        return finished

    # What is the same for all.

    def build_data(self) -> DataModule:
        """Describe the words of the run; nothing is opened yet."""
        task, model = self.task, self.task.exported_model()
        keep_aspect = isinstance(model, Reader) and model.keep_aspect
        return DataModule(
            self.config.data, *self.word_format(), self.config.seed, task.ctc_columns, keep_aspect, task.second_view
        )

    def batches(self, start: int) -> Iterator[Batch]:
        """Return this process's endless batches from number `start` on."""
        return self.data.batches(self.config.train.batch_size, self.accelerator)(start)

    def log(self, text: str) -> None:
        """Print a line."""
        print_lines(self.console, text)

    def training_note(self, step: int, result: Validation | None = None) -> str:
        """Describe the training, for the card."""
        train = self.config.train
        scored = "" if result is None else f"; {result.label} {result.accuracy:.2f}% on {result.words} validation words"
        return (
            f"Step {step} of {train.steps}, {train.batch_size * train.grad_accum} words each on "
            f"{self.accelerator.num_processes} process(es), seed {self.config.seed}{scored}. "
            f"Words: {self.data.summary}."
        )

    def execute(self, resume: str | None = None, overwrite: bool = False) -> bool:
        """Train, and do what follows.

        Args:
            resume: `auto`, a checkpoint folder, or None for a new run.
            overwrite: replace an earlier run in the folder.

        Returns:
            Whether the end was reached; else the run was asked to stop, and has saved.

        Raises:
            UserError: when something about the configuration, the words or the folder does not serve.
        """
        self.prepare_words()
        self.build_optimizer()
        if resume is not None:
            self.resume(resume)
        lock = None
        if self.accelerator.is_main_process:
            # Nothing is written or removed before all that may refuse has been built.
            lock = open_run_folder(self.out, overwrite, resume)
            if resume is not None and (aside := self.checkpoints.set_aside(self.state.step)):
                self.log(f"checkpoints of later steps are set aside: {', '.join(path.name for path in aside)}")
            save_config(self.config, self.out / "config.yaml")
        try:
            self.accelerator.wait_for_everyone()
            self.before_training()
            try:
                finished = self.train()
            except BaseException:
                self.after_failure()
                raise
            self.seconds["train"] = self.state.seconds
            if self.accelerator.is_main_process:  # what follows takes long, and is not done together
                try:
                    with StopRequest(at_once=True):
                        finished = self.after_training(finished)
                except StoppedError:
                    finished = False
            if not finished:
                how = "--resume auto (in Python resume='auto')"
                self.log(f"stopped at step {self.state.step} and saved; continue with {how}")
            return finished
        finally:
            if lock is not None:
                lock.close()

    def prepare_words(self) -> None:
        """Open the words, and render those that are missing."""
        started = time.monotonic()
        self.data.setup(self.console)
        self.seconds["words"] = time.monotonic() - started

    def build_optimizer(self) -> None:
        """Build optimizer, schedule and average, and have Accelerate wrap the task."""
        optim, train, task, accelerator = self.config.optim, self.config.train, self.task, self.accelerator
        self.peak = optim.lr
        if optim.scale_lr:
            self.peak = task.learning_rate(optim.lr, train.grad_accum, accelerator.num_processes, train.batch_size)
        optimizer = build_optimizer(
            task.parameter_groups(self.peak, optim.weight_decay), lr=self.peak, betas=(optim.beta1, optim.beta2),
            eps=optim.eps, kind=optim.name,
        )  # fmt: skip
        self.schedule = build_schedule(optimizer, train.steps, optim.warmup, optim.schedule)
        self._configured = ConfiguredRates(optimizer, self.schedule)
        self.gathered = GatheredModel(task.exported_model(), splits_weights(accelerator))
        self.model, self.optimizer = accelerator.prepare(task, optimizer)
        self.gathered.module.to(accelerator.device)
        self.average = WeightAverage(self.gathered.module, optim.ema) if optim.ema > 0 else None
        accelerator.register_for_checkpointing(self.state, self.schedule)
        if self.average is not None:
            accelerator.register_for_checkpointing(self.average)
        # Initial weights are the same on every process; from here on dropout differs between them.
        set_seed(self.config.seed, device_specific=True)
        self.checkpoints = CheckpointKeeper(self.out / "checkpoints", train.keep)
        self._saved_step = -1

    def resume(self, which: str) -> None:
        """Continue from `auto` (the latest checkpoint, if there is one) or from a checkpoint folder."""
        path = self.checkpoints.find(which)
        if path is None:
            if (self.out / self.exported).is_dir():
                self.log(f"no checkpoint in {self.checkpoints.folder}: starting from the beginning")
            return
        check_alphabet(path, self.data.charset.characters)
        changes = find_changes(path.parent.parent, self.config)
        told = describe_changes(changes) if changes else ""
        if changes and "optim.name" in changes:
            raise UserError(f"{path} has the state of another optimizer ({told}); resume with that one")
        load_checkpoint(self.accelerator, path, told)
        self.accelerator.step = 0  # checkpoints are saved between steps; `grad_accum` may have changed since
        self._configured.apply(self.optimizer, self.schedule, self.config.train.steps)
        self._saved_step = self.state.step
        self.log(f"resumed {path} at step {self.state.step}")
        if self.state.step > self.config.train.steps:
            self.log(f"that is past train.steps={self.config.train.steps}: nothing is left to train")
        if changes is None:
            self.log(f"what has changed since then can't be listed: {path.parent.parent} has no readable config.yaml")
        elif told:
            self.log(told)
        for line in describe_differences(path, self.accelerator.num_processes, self.data.summary):
            self.log(line)
        other = path.parent.resolve() != self.checkpoints.folder.resolve()  # whose best weights lie there
        if other or self.checkpoints.after(self.state.step):  # the best weights may be of those steps
            self.state.forget_best()
        elif any(validates(key, self.config) for key in changes or ()) or (
            self.state.validated_labels not in (None, self.data.validated_labels)
        ):
            self.state.forget_best()
            self.log("the words to validate on have changed: the best weights are chosen anew")
        self.accelerator.wait_for_everyone()  # before later checkpoints are set aside

    def current_model(self) -> nn.Module:
        """Return the exported model as it is now, averaged when averaging is on; every process calls it."""
        return self.average.module if self.average is not None else self.gathered.gather()

    def train(self) -> bool:
        """Train to the end, or until asked to stop; returns whether the end was reached.

        Afterwards every process is alone: the group that they formed is given up, so none waits for another any more.
        """
        settings, main = self.config.train, self.accelerator.is_main_process
        before, started = self.state.seconds, time.monotonic()
        self._clock = lambda: before + time.monotonic() - started
        log = self.out / "log.txt"
        with (
            StopRequest() as stop,
            TrainingProgress(self.console, settings.steps, self.state.step, main, log) as self.progress,
            Tracker(self.out, self.state.step) if main else nullcontext() as self.tracker,
        ):
            self.task.train()
            loop = Loop(
                self.accelerator, self.task, self.model, self.optimizer, self.schedule, self.average,
                self.gathered.gather, self.batches, settings.steps, self.config.optim.grad_clip, self._after_step, stop,
                self.before_backward,
            )  # fmt: skip
            try:
                train(loop, self.state)
            except NonFiniteLossError:
                raise  # the weights may have diverged already: earlier checkpoints stay
            except UserError:
                self._save_before_leaving()
                raise
            finished = self.state.step >= settings.steps
            if finished and self.state.validated_step != self.state.step:
                self._validate_now(self.state)  # resumed with no step left
            self._save()
        self.accelerator.end_training()
        return finished

    def _save_before_leaving(self) -> None:
        """Save when words can't be read, so that no step is lost once they are mended."""
        complete = self.accelerator.sync_gradients
        if complete and self.state.step > 0 and self.accelerator.num_processes == 1:  # others would not come to save
            self._save()

    def _save(self) -> None:
        if self._saved_step != self.state.step:
            self.state.seconds = self._clock()
            self.checkpoints.save(self.accelerator, self.state.step, self.data.charset.characters, self.data.summary)
            self._saved_step = self.state.step

    def _after_step(self, state: TrainState, report: StepReport) -> None:
        settings, last = self.config.train, state.step == self.config.train.steps
        logged = last or state.step % settings.log_every == 0
        self.progress.step(state.step, report.loss, report.words * self.accelerator.num_processes, logged)
        state.add(report)
        means = state.take_means() if logged else {}
        if logged and self.tracker is not None:
            rates = {"gradient_norm": report.gradient_norm, "learning_rate": report.learning_rate}
            speed = {"words_per_second": self.progress.words_per_second, "seconds": self._clock()}
            self.tracker.log(state.step, "train", {**means, **rates, **speed})
            self.tracker.log_to_tensorboard(state.step, "teacher", self.task.log_metrics())
        if self.tracker is not None:
            for group, values in self.observed.items():
                self.tracker.log(state.step, group, values)
        self.observed = {}
        if last or state.step % settings.validate_every == 0:
            self._validate_now(state)
        if not last and state.step % settings.checkpoint_every == 0:
            self._save()

    def _validate_now(self, state: TrainState) -> None:
        model = self.current_model()
        model.eval()
        if self.accelerator.num_processes > 1:
            # Each BatchNorm saw its own process's words in the last step; what is validated is what is exported.
            for buffer in model.buffers():
                torch.distributed.broadcast(buffer, src=0)
        result = self.validate(model, state.step)
        state.validated_step, state.validated_labels = state.step, self.data.validated_labels
        if result.accuracy > state.best_accuracy or self.config.train.select == "last":
            state.best_accuracy, state.best_step = result.accuracy, state.step
            if self.accelerator.is_main_process:
                self.save_best(model, result)
        self.task.train()  # not the weights alone: a task may keep some of its parts in eval mode
        for note in self.task.notes():
            self.progress.note(state.step, note)
        self.progress.validated(state.step, result.named_scores())
        if self.tracker is not None:
            row = {"accuracy": result.accuracy, **result.metrics, "words": float(result.words)}
            self.tracker.log(state.step, "validation", row)


def as_reader(model: nn.Module) -> Reader:
    """Return the model that is trained, which is a reader unless a run says otherwise; raises `TypeError`."""
    if not isinstance(model, Reader):
        raise TypeError(f"a reader is trained, not a {type(model).__name__}")
    return model
