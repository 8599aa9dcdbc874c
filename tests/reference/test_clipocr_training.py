"""CLIP-OCR's training: the stored paths of a whole run, and what their weights read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from distill.data.batch import Batch
from distill.evaluation.validation import Validation
from distill.schema import Config
from distill.training.accelerator import own_process_state
from distill.training.distillation import DistillationTask
from distill.training.run import TrainingRun
from distill.training.sections import OptimSection, TrainSection
from students.student import Student
from tests.reference.cases import Case, Converted, cases, close
from tests.reference.clipocr_cases import (
    LOSSES,
    batch_of,
    load_task,
    published,
    same_losses,
    same_norms,
    same_readings,
    sources,
    step,
    task_folder,
)

WHOLE = 10**9
"""More steps than any path has."""
CHAOS = 10
"""Steps after which rounding grows beyond bounds: what follows is compared by its mean loss and its readings."""
TIGHT = {"0-4": 2e-5, "5-9": 1e-4}
"""Relative tolerances of the steps before, for a file that gives none."""
FINAL = 0.03
"""How near the mean of the last losses has to come."""


class StoredRun(TrainingRun[Config]):
    """A run with a given task and given batches, which validates nothing."""

    def __init__(self, config: Config, task: DistillationTask, stored: Callable[[int], Iterator[Batch]]) -> None:
        self.stored_task, self.stored_batches = task, stored
        super().__init__(config, console=Console(quiet=True))

    def build_task(self, log: Callable[[str], None]) -> DistillationTask:
        return self.stored_task

    def check(self) -> None:
        pass

    def batches(self, start: int) -> Iterator[Batch]:
        return self.stored_batches(start)

    def validate(self, weights: nn.Module, step: int) -> Validation:
        return Validation(0.0, 0)

    def save_best(self, weights: nn.Module, result: Validation) -> None:
        pass


@dataclass(frozen=True)
class Path300:
    """What a run along a stored path left behind."""

    rows: list[dict[str, float]]
    """What was logged of every step."""
    weights_at: dict[int, dict[str, Tensor]]
    """Weights by published name after those steps that the file asks for."""
    student: Student


def pool(case: Case, chosen: Any) -> Batch:
    """Make a batch of a path's pictures and labels."""
    labels = case.numbers["pool_labels"]
    return batch_of(case.arrays["pool_images_uint8"][chosen], [labels[index] for index in chosen])


def watched(case: Case, number: int) -> set[str]:
    """Name the weights that the file knows after `number` steps."""
    prefix = f"after{number}steps__"
    stored = {name.removeprefix(prefix) for name in case.arrays if name.startswith(prefix)}
    return stored | set(case.numbers["param_norms_after_step"].get(str(number), ()))


def run_path(case: Case, task: DistillationTask, folder: Path, limit: int) -> Path300:
    """Train as the file says, through the same run as `tools/distill.py`; after `limit` steps the words run out."""
    numbers, indices = case.numbers, case.arrays["batch_indices"]
    settings, model, steps, weights = numbers["optimizer"], numbers["model"], numbers["steps"], published(task)
    weights_at: dict[int, dict[str, Tensor]] = {}

    def batches(start: int) -> Iterator[Batch]:
        for number in range(start, min(steps, limit) + 1):
            # The next batch is asked for when a step is done.
            weights_at[number] = {name: weights[name].detach().clone() for name in watched(case, number)}
            if number < limit:
                yield pool(case, indices[number % steps])

    optim = OptimSection(
        lr=model["lr"], warmup=model["warmup_pct"], weight_decay=settings["weight_decay"], beta1=settings["betas"][0],
        beta2=settings["betas"][1], eps=settings["eps"], grad_clip=settings["gradient_clip_norm"],
    )  # fmt: skip
    train = TrainSection(
        steps=steps, batch_size=numbers["batch_size"], validate_every=steps, checkpoint_every=steps, log_every=1
    )
    with own_process_state():
        run = StoredRun(Config(out=str(folder), optim=optim, train=train), task, batches)
        run.build_optimizer()
        assert run.peak == pytest.approx(settings["peak_lr"], rel=1e-9)
        assert run.train() == (limit >= steps)
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return Path300([row for row in logged if row["group"] == "train"], weights_at, task.student.eval())


@pytest.fixture(scope="module")
def path(converted: Converted, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Go a stored path, or the first steps of it, once."""
    gone: dict[tuple[str, int], Path300] = {}

    def go(case: Case, source: str, limit: int) -> Path300:
        if (case.name, limit) not in gone:
            task = load_task(task_folder(case, converted, source))
            gone[case.name, limit] = run_path(case, task, tmp_path_factory.mktemp(case.name), limit)
        return gone[case.name, limit]

    return go


along = pytest.mark.parametrize(("case", "source"), cases("clipocr path", lambda case: sources(case)[:1]))
far = pytest.mark.parametrize("limit", [CHAOS, pytest.param(WHOLE, id="all", marks=pytest.mark.slow)])


def series(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return what was logged under the published names."""
    built = {"total": [row["loss"] for row in rows], "grad_norm_before_clip": [row["gradient_norm"] for row in rows]}
    for name, start in LOSSES.items():
        built[name.removeprefix("loss_")] = [
            sum(value for term, value in row.items() if term.startswith(start)) for row in rows
        ]
    return built


@along
@far
def test_every_step(case: Case, source: str, limit: int, path: Any) -> None:
    rows, stored = path(case, source, limit).rows, case.numbers["per_step"]
    assert len(rows) == min(limit, case.numbers["steps"])
    assert [row["learning_rate"] for row in rows] == pytest.approx(stored["lr"][: len(rows)], rel=1e-9)
    actual = series(rows)
    assert set(actual) == set(stored) - {"lr"}
    bounds = case.numbers.get("suggested_relative_tolerance") or {
        steps: dict.fromkeys(actual, share) for steps, share in TIGHT.items()
    }
    for steps, shares in bounds.items():
        first, last = map(int, steps.split("-"))
        for name, share in shares.items():
            expected = stored[name][first : min(last + 1, len(rows))]
            assert actual[name][first : last + 1] == pytest.approx(expected, rel=share), f"{name} in steps {steps}"


@along
@far
def test_weights_on_the_way(case: Case, source: str, limit: int, path: Any) -> None:
    gone: Path300 = path(case, source, limit)
    for number, norms in case.numbers["param_norms_after_step"].items():
        if int(number) not in gone.weights_at:
            continue
        actual = {name: float(gone.weights_at[int(number)][name].double().norm()) for name in norms}
        assert actual == pytest.approx(norms, rel=1e-5 if int(number) <= CHAOS else 0.05)
    for name in case.arrays:
        stored = re.fullmatch(r"after(\d+)steps__(.+)", name)
        if stored and int(stored[1]) in gone.weights_at:
            weight = gone.weights_at[int(stored[1])][stored[2]]
            torch.testing.assert_close(weight, case.tensor(name), rtol=0, atol=2e-5)


@along
@pytest.mark.slow
def test_end_of_the_path(case: Case, source: str, path: Any) -> None:
    gone, last = path(case, source, WHOLE), {}
    for name, value in case.numbers.items():
        if counted := re.fullmatch(r"final_mean_last_(\d+)", name):
            last[name] = int(counted[1])
            mean = sum(row["loss"] for row in gone.rows[-last[name] :]) / last[name]
            assert mean == pytest.approx(value, rel=FINAL)
        if re.fullmatch(r"right_of_(\d+)_after_training", name):
            labels = case.numbers["pool_labels"]
            read = gone.student.read_batch(pool(case, range(len(labels))).images)
            assert sum(reading.text == label for reading, label in zip(read, labels, strict=True)) >= value
    assert last


trained = pytest.mark.parametrize(
    ("case", "source"),
    cases("clipocr path", lambda case: sources(case)[:1] * ("after_training_step_on_batch0" in case.numbers)),
)
"""Paths whose last weights are stored too."""


@trained
@torch.inference_mode()
def test_readings_of_the_last_weights(case: Case, source: str, converted: Converted) -> None:
    student = Student.from_pretrained(converted("clipocr", case.weights()))
    first = next(name for name in case.numbers if re.fullmatch(r"greedy_first\d+", name))
    pictures = {first: pool(case, range(int(first.removeprefix("greedy_first")))).images}
    if "greedy_unseen" in case.numbers:
        unseen = case.arrays["unseen_images_uint8"]
        pictures["greedy_unseen"] = batch_of(unseen, [""] * len(unseen)).images
    for name, images in pictures.items():
        logits = student(images)
        close(logits, case.tensor(name.replace("greedy", "greedy_logits")))
        same_readings(student, logits, case.numbers[name])
    for number, expected in enumerate(case.numbers["greedy_each_alone"]):
        batch = pool(case, [number])
        logits = student(batch.images)
        assert batch.labels == [expected["label"]]
        same_readings(
            student,
            logits,
            {"steps": expected["steps"], "strings": [expected["string"]], "confidences": [expected["confidence"]]},
        )


@trained
def test_step_with_the_last_weights(case: Case, source: str, converted: Converted) -> None:
    expected = case.numbers["after_training_step_on_batch0"]
    task = load_task(task_folder(case, converted, source, case.weights()))
    done = step(task, pool(case, case.arrays["batch_indices"][0]))
    same_losses(done, expected)
    same_norms(done.gradients, expected["grad_norm"])
