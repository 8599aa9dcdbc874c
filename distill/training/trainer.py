"""The training loop: batch, terms, backward, clip, step, schedule. Everything else is an object that it calls."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from distill.data.batch import Batch
from distill.training.ema import WeightAverage
from distill.training.stopping import StopRequest
from distill.training.task import Task
from students.errors import UserError


@dataclass
class TrainState:
    """The position of a run; saved with every checkpoint."""

    step: int = 0
    """Optimizer steps done."""
    batches: int = 0
    """Batches consumed by this process, accumulation counted."""
    best_accuracy: float = -1.0
    """Best validation word accuracy so far, percent."""
    best_step: int = 0
    """Optimizer step of it."""
    validated_step: int = -1
    """Optimizer step of the latest validation; -1 before the first."""
    validated_labels: int | None = None
    """Checksum of the labels of the latest validation; see `DataModule.validated_labels`."""
    seconds: float = 0.0
    """Wall time of the loop, validation included."""
    logged: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Sums of loss and terms since they were last logged, and of how many steps each."""

    def add(self, report: StepReport) -> None:
        """Count a step's loss and terms among those that are logged next."""
        for name, value in {"loss": report.loss, **report.terms}.items():
            total, steps = self.logged.get(name, (0.0, 0))
            self.logged[name] = total + value, steps + 1

    def take_means(self) -> dict[str, float]:
        """Return the means of loss and terms since the last call, each over the steps that had it."""
        means = {name: total / steps for name, (total, steps) in self.logged.items()}
        self.logged = {}
        return means

    def forget_best(self) -> None:
        """Have the best weights chosen anew: those that were best don't count any more."""
        self.best_accuracy, self.validated_step = -1.0, -1

    def state_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return dict(vars(self))

    def load_state_dict(self, stored: dict[str, Any]) -> None:
        """Restore the fields."""
        vars(self).update(stored)


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did, for logs: numbers already summed over its accumulated batches."""

    terms: dict[str, float]
    loss: float
    gradient_norm: float
    learning_rate: float
    words: int


class NonFiniteLossError(UserError):
    """The loss or the gradient is NaN or infinite, often from too high a learning rate; names step, terms and batch."""


@dataclass(frozen=True)
class Loop:
    """The objects that the loop works with."""

    accelerator: Accelerator
    task: Task
    model: nn.Module
    """The task as Accelerate wrapped it."""
    optimizer: Any
    schedule: LRScheduler
    average: WeightAverage | None
    exported_model: Callable[[], nn.Module]
    """Gives the task's exported model with all its weights on this process."""
    batches: Callable[[int], Iterator[Batch]]
    """Gives endless batches from the k-th on."""
    steps: int
    clip: float
    """Largest gradient norm; 0 leaves gradients as they are."""
    after_step: Callable[[TrainState, StepReport], None]
    """Logs, validates, saves; called on every process after every optimizer step."""
    stop: StopRequest
    before_backward: Callable[[int, dict[str, Tensor]], None] = lambda step, terms: None
    """Looks at the terms of a step's first batch, whose graph is still whole."""


def train(loop: Loop, state: TrainState) -> TrainState:
    """Train from `state` to `loop.steps` optimizer steps or until asked to stop.

    Raises:
        NonFiniteLossError: when the loss is NaN or infinite.
    """
    accelerator, task, model = loop.accelerator, loop.task, loop.model
    running = RunningTerms()
    largest = loop.clip or math.inf  # the norm is logged in any case
    checked = False
    for batch in loop.batches(state.batches):
        # Between the batches of one step a stop has to wait: gradients that are not complete can't be saved.
        if state.step >= loop.steps or (running.batches == 0 and loop.stop.requested(accelerator)):
            break
        batch = batch.to(accelerator.device)
        with accelerator.accumulate(model):
            with torch.no_grad(), accelerator.autocast():
                inputs = task.prepare(batch, state.step, state.step / loop.steps, running.batches)
            terms = model(inputs)
            loss = task.total(terms)
            running.add(terms, loss, len(batch.labels))
            if not running.finite:
                raise NonFiniteLossError(running.blame(state.step, batch))
            if running.batches == 1:
                loop.before_backward(state.step, terms)
            accelerator.backward(loss)
            norm = accelerator.clip_grad_norm_(model.parameters(), largest) if accelerator.sync_gradients else None
            if norm is not None and not checked:
                check_gradients(task)
                checked = True
            if norm is not None and accelerator.scaler is None and not math.isfinite(norm):
                raise NonFiniteLossError(running.blame(state.step, batch, "gradient norm"))
            loop.optimizer.step()
            loop.optimizer.zero_grad()
        state.batches += 1
        if norm is None:  # the accumulated batch is not complete yet
            continue
        rate = float(loop.schedule.get_last_lr()[0])
        if not accelerator.optimizer_step_was_skipped:  # fp16 skips a step while it looks for its loss scale
            loop.schedule.step()
            if loop.average is not None:
                loop.average.update(loop.exported_model())
        state.step += 1
        loop.after_step(state, running.report(float(norm), rate))
    return state


class RunningTerms:
    """Loss terms summed over the batches of one optimizer step."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.terms: dict[str, float] = {}
        self.loss, self.batches, self.words, self.finite = 0.0, 0, 0, True

    def add(self, terms: dict[str, Tensor], loss: Tensor, words: int) -> None:
        """Add one batch's terms."""
        names = list(terms)
        values = torch.stack([loss.detach().float(), *(terms[name].detach().float() for name in names)]).tolist()
        self.last = dict(zip(names, values[1:], strict=True))
        self.finite = self.finite and all(map(math.isfinite, values))
        self.loss += values[0]
        for name, value in self.last.items():
            self.terms[name] = self.terms.get(name, 0.0) + value
        self.batches += 1
        self.words += words

    def blame(self, step: int, batch: Batch, what: str = "loss") -> str:
        """Name terms, step and batch, when `what` is not finite."""
        terms = ", ".join(f"{name} {value:.4g}" for name, value in self.last.items())
        words = ", ".join(batch.labels[:8]) + (" ..." if len(batch.labels) > 8 else "")
        return (
            f"{what} is not finite at step {step + 1}: {terms}; batch of {len(batch.labels)}: records "
            f"{batch.indices[:8].tolist()} ({words}). Lower optim.lr, or set train.precision=no to tell overflow from "
            "divergence."
        )

    def report(self, gradient_norm: float, learning_rate: float) -> StepReport:
        """Return the means over the step's batches, and start the next step."""
        report = StepReport(
            terms={name: value / self.batches for name, value in self.terms.items()}, loss=self.loss / self.batches,
            gradient_norm=gradient_norm, learning_rate=learning_rate, words=self.words,
        )  # fmt: skip
        self._clear()
        return report


def check_gradients(task: Task) -> None:
    """Check after the first backward that every trainable weight got a gradient.

    Raises:
        RuntimeError: naming the weights that the loss does not reach.
    """
    unused = task.unused_parameters()
    missing = [
        name for name, weight in task.named_parameters()
        if weight.requires_grad and weight.grad is None and not name.startswith(unused)
    ]  # fmt: skip
    if missing and all(re.match(r"heads\.(?!\d+\.)", name) for name in missing):  # of losses, not of guidance heads
        raise UserError(
            f"a loss has weights that no gradient reaches: {', '.join(missing[:6])}; use them, or leave them out of it"
        )
    if missing:
        raise RuntimeError(f"the loss reaches no gradient of {len(missing)} weights: {', '.join(missing[:6])}")
    frozen = () if task.frozen is None else task.frozen.named_parameters()
    reached = [name for name, weight in frozen if weight.grad is not None]
    if reached:
        raise RuntimeError(f"the frozen teacher got gradients: {', '.join(reached[:6])}")
