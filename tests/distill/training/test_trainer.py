"""The loop on a task that can be computed by hand: what it checks, what it counts, when it stops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from distill.data.batch import Batch
from distill.training.ema import WeightAverage
from distill.training.optim import build_schedule
from distill.training.stopping import StopRequest
from distill.training.task import Task
from distill.training.trainer import Loop, NonFiniteLossError, StepReport, TrainState, check_gradients, train

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

WORDS = 24


class Toy(Task):
    """Two terms: the mean square of a linear map of the pictures, and a pull on its weights."""

    def __init__(self, broken: Callable[[Tensor, int], Tensor] | None = None, rests: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.map = nn.Linear(4, 2)
        self.broken, self.rests = broken, rests

    def prepare(self, batch: Batch, step: int, progress: float, part: int = 0) -> tuple[Tensor, int]:
        return batch.images.flatten(1)[:, :4], step

    def forward(self, inputs: tuple[Tensor, int]) -> dict[str, Tensor]:
        pixels, step = inputs
        pull = 0.1 * self.map.weight.square().sum()
        if self.broken is not None:
            pull = self.broken(pull, step)
        return {"fit": (self.map(pixels) - 1).square().mean(), "pull": pull}

    def exported_model(self) -> nn.Module:
        return self.map

    def no_weight_decay(self) -> set[str]:
        return set()

    def unused_parameters(self) -> tuple[str, ...]:
        return self.rests


def batches_of(size: int) -> Callable[[int], Iterator[Batch]]:
    """Endless batches of the same words in the same order, whatever their size."""
    pixels = torch.randn(WORDS, 3, 1, 4, generator=torch.Generator().manual_seed(1))

    def start(position: int) -> Iterator[Batch]:
        for batch in itertools.count(position):
            indices = torch.arange(batch * size, (batch + 1) * size) % WORDS
            labels = [f"w{index}" for index in indices.tolist()]
            yield Batch(pixels[indices], labels, torch.full((size, 32), -1), indices)

    return start


def build(
    task: Toy, size: int = 4, steps: int = 5, grad_accum: int = 1, clip: float = 100.0
) -> tuple[Loop, list[StepReport]]:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=grad_accum, step_scheduler_with_optimizer=False)
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
    schedule = build_schedule(optimizer, steps, 0.2, "cosine")
    model, prepared = accelerator.prepare(task, optimizer)
    reports: list[StepReport] = []
    loop = Loop(
        accelerator, task, model, prepared, schedule, WeightAverage(task.map, 0.9), lambda: task.map,
        batches_of(size), steps, clip, lambda state, report: reports.append(report), StopRequest(),
    )  # fmt: skip
    return loop, reports


def test_it_counts_steps_batches_words_and_rates() -> None:
    loop, reports = build(Toy(), grad_accum=3)
    state = train(loop, TrainState())
    assert (state.step, state.batches) == (5, 15)
    assert [report.words for report in reports] == [12] * 5
    assert [report.learning_rate for report in reports] == pytest.approx(
        [0.05, 0.1, 0.1 * 0.853553, 0.05, 0.1 * 0.146447], rel=1e-5
    )
    assert loop.average is not None
    assert loop.average.state_dict()["n_averaged"] == 5
    assert all(report.loss == pytest.approx(sum(report.terms.values())) for report in reports)
    assert reports[-1].loss < reports[0].loss


@pytest.mark.parametrize("grad_accum", [2, 3])
def test_accumulated_batches_are_the_joined_batch(grad_accum: int) -> None:
    torch.manual_seed(0)
    joined, whole = build(Toy(), size=12)
    train(joined, TrainState())  # before the next one is built: accumulation is a state of the whole process
    torch.manual_seed(0)
    split, parts = build(Toy(), size=12 // grad_accum, grad_accum=grad_accum)
    train(split, TrainState())
    for one, other in zip(whole, parts, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-5)
    torch.testing.assert_close(dict(split.task.state_dict()), dict(joined.task.state_dict()))


def test_gradients_are_clipped_after_their_norm_was_taken() -> None:
    task = Toy()
    before = task.map.weight.detach().clone(), task.map.bias.detach().clone()
    loop, reports = build(task, steps=1, clip=0.01)
    train(loop, TrainState())
    moved = torch.cat([(new - old).detach().flatten() for new, old in zip(task.parameters(), before, strict=True)])
    assert reports[0].gradient_norm > 0.1
    assert float(moved.norm()) == pytest.approx(0.01 * reports[0].learning_rate, rel=1e-3)


def test_a_clip_of_nothing_leaves_gradients_as_they_are() -> None:
    ends = []
    for clip in (0.0, 1e6):
        torch.manual_seed(0)
        task = Toy()
        loop, reports = build(task, steps=2, clip=clip)
        train(loop, TrainState())
        assert all(report.gradient_norm > 0 for report in reports)
        ends.append(task.map.weight.detach().clone())
    assert torch.equal(*ends)


def test_it_goes_on_from_a_state() -> None:
    torch.manual_seed(0)
    unbroken, reports = build(Toy())
    train(unbroken, TrainState())
    torch.manual_seed(0)
    broken, first = build(Toy())
    asked = iter([False, False, True])
    broken.stop.requested = lambda accelerator: next(asked)  # type: ignore[method-assign]
    state = train(broken, TrainState())
    assert (state.step, state.batches) == (2, 2)
    broken.stop.requested = lambda accelerator: False  # type: ignore[method-assign]
    restored = TrainState()
    restored.load_state_dict(state.state_dict())
    train(broken, restored)
    assert first == reports


def test_a_stop_waits_until_the_step_is_complete() -> None:
    loop, reports = build(Toy(), grad_accum=3)
    seen: list[int] = []
    start = loop.batches

    def batches(position: int) -> Iterator[Batch]:
        for number, batch in enumerate(start(position)):
            seen.append(number)
            if number == 4:  # the second of the three batches of step 2
                loop.stop.signalled = 15
            yield batch

    state = train(Loop(**{**vars(loop), "batches": batches}), TrainState())
    assert (state.step, state.batches, len(reports)) == (2, 6, 2)


def test_a_weight_that_the_loss_does_not_reach_is_named() -> None:
    task = Toy()
    task.lonely = nn.Linear(3, 3)
    loop, reports = build(task)
    with pytest.raises(RuntimeError, match=r"2 weights: lonely\.weight, lonely\.bias"):
        train(loop, TrainState())
    assert reports == []


def test_weights_that_are_frozen_or_rest_are_let_be() -> None:
    task = Toy(rests=("lonely.",))
    task.lonely = nn.Linear(3, 3)
    task.frozen = nn.Linear(3, 3).requires_grad_(False)
    assert task.find_unused_parameters()
    loop, _ = build(task)
    assert train(loop, TrainState()).step == 5


def test_a_teacher_that_gets_gradients_is_named() -> None:
    class Taught(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = (nn.Linear(4, 4),)

        @property
        def frozen(self) -> nn.Module:
            return self.hidden[0]

    task = Taught()
    task.total(task((torch.randn(2, 4), 0))).backward()
    check_gradients(task)
    task.frozen(torch.randn(2, 4)).sum().backward()
    with pytest.raises(RuntimeError, match=r"teacher got gradients: weight, bias"):
        check_gradients(task)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_step_terms_and_batch(value: float) -> None:
    loop, reports = build(Toy(broken=lambda pull, step: pull * value if step == 2 else pull))
    with pytest.raises(NonFiniteLossError) as stopped:
        train(loop, TrainState())
    message = str(stopped.value)
    assert "step 3" in message
    assert f"pull {value}" in message
    assert "fit 0." in message or "fit 1." in message or "fit 2." in message
    assert "records [8, 9, 10, 11] (w8, w9, w10, w11)" in message
    assert len(reports) == 2, "the step was not taken"


def test_gradients_that_are_not_finite_stop_before_they_spoil_the_weights() -> None:
    # The root of 0 is 0, its slope is not.
    task = Toy(broken=lambda pull, step: (pull - pull).sqrt() if step == 1 else pull)
    loop, reports = build(task)
    with pytest.raises(NonFiniteLossError, match="gradient norm is not finite at step 2"):
        train(loop, TrainState())
    assert len(reports) == 1
    assert all(bool(weight.isfinite().all()) for weight in task.parameters())
