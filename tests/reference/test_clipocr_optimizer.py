"""CLIP-OCR's optimizer: the learning-rate rule, its groups, its schedule, clipping, and one step of every weight."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from distill.training.distillation import DistillationTask
from distill.training.optim import build_optimizer, build_schedule, learning_rate
from tests.reference.cases import Case, Converted, cases, find
from tests.reference.clipocr_cases import (
    batch_of,
    load_task,
    published,
    published_of,
    sources,
    step,
    task_folder,
    total_norm,
)

STEP = "one_step_wd_"
"""How the keys begin of what one step changes."""


def scheduled(lr: float, steps: int, share: float) -> Any:
    """Build the published schedule over an optimizer of its own."""
    return build_schedule(build_optimizer([{"params": nn.Linear(2, 2).parameters()}], lr=lr), steps, share)


def parts(key: str) -> Any:
    """Return a function that numbers the entries under `key`."""
    return lambda case: range(len(case.numbers[key]))


@pytest.mark.parametrize(("case", "number"), cases("clipocr optimizer", parts("lr_rule")))
def test_learning_rates(case: Case, number: int) -> None:
    expected = case.numbers["lr_rule"][number]
    rate = learning_rate(
        expected["lr"], expected["accumulate_grad_batches"], expected["devices"], expected["batch_size"]
    )
    assert rate == pytest.approx(expected["effective_max_lr"], rel=1e-12)
    assert scheduled(rate, 1000, 0.075).get_last_lr() == pytest.approx([expected["first_step_lr"]], rel=1e-9)


@pytest.mark.filterwarnings("ignore:To get the last learning rate")
@pytest.mark.parametrize(("case", "number"), cases("clipocr optimizer", parts("onecycle")))
def test_schedules(case: Case, number: int) -> None:
    stored = case.numbers["onecycle"][number]
    schedule = scheduled(stored["max_lr"], stored["total_steps"], stored["pct_start"])
    for at, expected in stored["points"]:
        schedule.last_epoch = at  # jump: some runs have very many steps
        assert schedule.get_lr() == pytest.approx([expected], rel=1e-9), f"step {at}"


def started_from(case: Case) -> Case:
    """Find the batch that the file's step was taken on, by the norm of its gradients."""
    clip = case.numbers["gradient_clip"]
    norm = next(value for name, value in clip.items() if name.startswith("total_norm_before"))
    same = [step for step in find("clipocr step") if math.isclose(step.numbers["grad_norm_total"], norm, rel_tol=1e-4)]
    assert same, f"no batch with gradients of norm {norm} lies beside {case.path.name}"
    return same[0]


@pytest.fixture(scope="module")
def graded(converted: Converted) -> Any:
    """Load a task with the gradients of one step."""

    def load(case: Case) -> DistillationTask:
        start = started_from(case)
        task = load_task(task_folder(start, converted, sources(start)[0]))
        step(task, batch_of(start.arrays["images_uint8"], start.numbers["labels"]))
        return task

    return load


def decays(case: Case) -> list[str]:
    """List the weight decays that groups are stored for."""
    return list(case.numbers["parameter_groups"])


@pytest.mark.parametrize(("case", "decay"), cases("clipocr optimizer", decays))
def test_parameter_groups(case: Case, decay: str, graded: Any) -> None:
    task = graded(case)
    names = {id(weight): name for name, weight in published(task).items()}
    stored = case.numbers["parameter_groups"][decay]
    optimizer = build_optimizer(task.parameter_groups(1e-3, float(decay)), lr=1e-3)
    assert type(optimizer).__name__ == stored["optimizer"]
    assert len(optimizer.param_groups) == len(stored["groups"])
    for group, expected in zip(optimizer.param_groups, stored["groups"], strict=True):
        settings = (group["weight_decay"], list(group["betas"]), group["eps"])
        assert settings == (expected["weight_decay"], expected["betas"], expected["eps"])
        assert sorted(names[id(weight)] for weight in group["params"]) == sorted(expected["names"])
    undecayed = {published_of(name) for name in task.no_weight_decay()}
    assert undecayed == set(case.numbers["no_weight_decay_names"]) & set(names.values())


@pytest.mark.parametrize(
    ("case", "key"), cases("clipocr optimizer", lambda case: [key for key in case.numbers if key.startswith(STEP)])
)
def test_one_clipped_step_of_every_weight(case: Case, key: str, graded: Any) -> None:
    task = graded(case)
    stored, clip = case.numbers[key], case.numbers["gradient_clip"]
    before = float(torch.nn.utils.clip_grad_norm_(task.parameters(), clip["max_norm"]))
    weights = published(task)
    assert min(1.0, clip["max_norm"] / (before + 1e-6)) == pytest.approx(clip["coefficient"], rel=2e-5)
    clipped = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
    assert total_norm(clipped) == pytest.approx(clip["total_norm_after"], rel=2e-5)
    rate = stored["lr_used"]
    optimizer = build_optimizer(task.parameter_groups(rate, float(key.removeprefix(STEP))), lr=rate)
    start = {name: weight.detach().double().clone() for name, weight in weights.items()}
    optimizer.step()
    assert set(stored["change_norm"]) == set(weights)
    for name, expected in stored["change_norm"].items():
        moved = (weights[name].detach().double() - start[name]).norm().item()
        # AdamW's first step moves a weight by the whole rate, however small its gradient. Where that is rounding and
        # no more, the direction is arbitrary, and so is the change of such weights.
        gradient = clipped[name].abs()
        noise = rate * math.sqrt(int(((gradient > 0) & (gradient < 1e-6)).sum()))
        assert moved == pytest.approx(expected, rel=1e-3, abs=2 * noise), name
        norm = weights[name].detach().double().norm().item()
        assert norm == pytest.approx(stored["weight_norm_after"][name], rel=1e-6, abs=2 * noise), name
