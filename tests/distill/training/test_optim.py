from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distill.training.optim import adamw, build_schedule, learning_rate, parameter_groups
from students.errors import UserError


@pytest.fixture(scope="module")
def stored(reference: Path) -> dict[str, Any]:
    return json.loads((reference / "clipocr_optim.json").read_text(encoding="utf-8"))


def build_optimizer(
    module: nn.Module, weight_decay: float = 0.0, no_decay_names: Collection[str] = (), **options: Any
) -> torch.optim.AdamW:
    return adamw(parameter_groups(module, weight_decay, no_decay_names), **options)


def published_module(weights: dict[str, torch.Tensor]) -> nn.Module:
    """A module with the names and values of a stored recogniser and its heads."""
    root = nn.Module()
    for name, weight in weights.items():
        part = root
        *path, leaf = name.split(".")
        for step in path:
            if step not in dict(part.named_children()):
                part.add_module(step, nn.Module())
            part = part.get_submodule(step)
        part.register_parameter(leaf, nn.Parameter(weight.clone()))
    return root


@pytest.fixture(scope="module")
def module(reference: Path) -> nn.Module:
    weights = torch.load(reference / "clipocr_tiny.ckpt", weights_only=True)["state_dict"]
    return published_module({name: weight for name, weight in weights.items() if not name.startswith("clip")})


def names_by_group(module: nn.Module, groups: list[dict[str, Any]]) -> list[set[str]]:
    names = {id(weight): name for name, weight in module.named_parameters()}
    return [{names[id(weight)] for weight in group["params"]} for group in groups]


@pytest.mark.reference
def test_learning_rates_scale_as_published(stored: dict[str, Any]) -> None:
    for case in stored["lr_rule"]:
        rate = learning_rate(case["lr"], case["accumulate_grad_batches"], case["devices"], case["batch_size"])
        assert rate == pytest.approx(case["effective_max_lr"], rel=1e-12)
        optimizer = build_optimizer(nn.Linear(2, 2), lr=rate)
        first = build_schedule(optimizer, 1000, 0.075).get_last_lr()
        assert first == pytest.approx([case["first_step_lr"]], rel=1e-9)


@pytest.mark.reference
@pytest.mark.parametrize("weight_decay", ["0.0", "0.05"])
def test_groups_are_the_published_ones(stored: dict[str, Any], module: nn.Module, weight_decay: str) -> None:
    groups = parameter_groups(module, float(weight_decay), stored["no_weight_decay_names"])
    expected = stored["parameter_groups"][weight_decay]["groups"]
    assert [group["weight_decay"] for group in groups] == [group["weight_decay"] for group in expected]
    trained = {name for name, _ in module.named_parameters()}  # the stored ones hold the frozen teacher too
    assert names_by_group(module, groups) == [set(group["names"]) & trained for group in expected]
    assert set().union(*names_by_group(module, groups)) == trained


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:To get the last learning rate")
def test_onecycle_is_the_published_one(stored: dict[str, Any]) -> None:
    for case in stored["onecycle"]:
        optimizer = build_optimizer(nn.Linear(2, 2), lr=case["max_lr"])
        schedule = build_schedule(optimizer, case["total_steps"], case["pct_start"], "onecycle")
        for step, expected in case["points"]:
            schedule.last_epoch = step  # jump: a run of 169,680 steps is in the list
            assert schedule.get_lr() == pytest.approx([expected], rel=1e-9), f"{case['total_steps']} steps, step {step}"


def test_stepping_gives_the_schedule_and_leaves_momentum_alone() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), lr=0.01, betas=(0.8, 0.9))
    schedule = build_schedule(optimizer, 10, 0.5)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    # Of the stored schedule of 10 steps: cosine from 1/25 of the peak to the peak at step 4.
    assert rates[:5] == pytest.approx([4e-4, 0.0018058874503045722, 0.0052, 0.008594112549695427, 0.01])
    assert rates[9] == pytest.approx(0.01 / 250_000)
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)


@pytest.mark.parametrize("kind", ["onecycle", "cosine"])
def test_schedule_resumes_where_it_stopped(kind: Any) -> None:
    def fresh() -> tuple[torch.optim.Optimizer, Any]:
        optimizer = build_optimizer(nn.Linear(2, 2), lr=0.01)
        return optimizer, build_schedule(optimizer, 12, 0.25, kind)

    optimizer, schedule = fresh()
    rates, states = [], []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        states.append((optimizer.state_dict(), schedule.state_dict()))
        optimizer.step()
        schedule.step()
    again, resumed = fresh()
    again.load_state_dict(states[5][0])
    resumed.load_state_dict(states[5][1])
    for rate in rates[5:]:
        assert again.param_groups[0]["lr"] == rate
        again.step()
        resumed.step()


@pytest.mark.parametrize("kind", ["onecycle", "cosine"])
@pytest.mark.parametrize(("total", "share"), [(1, 0.0), (1, 0.075), (2, 0.5), (10, 0.1), (3, 0.9), (40, 0.0)])
def test_short_runs_have_a_schedule(kind: Any, total: int, share: float) -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), lr=1.0)
    schedule = build_schedule(optimizer, total, share, kind)
    for _ in range(total):
        assert 0 < optimizer.param_groups[0]["lr"] <= 1
        optimizer.step()
        schedule.step()


def test_cosine_rises_to_the_peak_and_falls_to_nothing() -> None:
    optimizer = build_optimizer(nn.Linear(2, 2), lr=2.0)
    schedule = build_schedule(optimizer, 8, 0.5, "cosine")
    rates = []
    for _ in range(9):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 1.7071067811865475, 1.0, 0.2928932188134524, 0.0])


@pytest.mark.reference
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_one_clipped_step_moves_the_weights_as_published(
    reference: Path, stored: dict[str, Any], module: nn.Module, weight_decay: float
) -> None:
    expected = stored[f"one_step_wd_{weight_decay}"]
    fresh = published_module({name: weight.detach() for name, weight in module.named_parameters()})
    optimizer = build_optimizer(
        fresh, lr=expected["lr_used"], weight_decay=weight_decay, no_decay_names=stored["no_weight_decay_names"]
    )
    weights = dict(fresh.named_parameters())
    with np.load(reference / "clipocr_tiny.npz") as arrays:
        stored_gradients = {key: torch.from_numpy(arrays[key]) for key in arrays if key.startswith("grad__")}
    graded = {key.removeprefix("grad__"): gradient for key, gradient in stored_gradients.items()}
    for name, gradient in graded.items():
        weights[name].grad = gradient * stored["gradient_clip"]["coefficient"]
    before = {name: weights[name].detach().clone() for name in graded}
    optimizer.step()
    for name in graded:
        moved = (weights[name].detach().double() - before[name].double()).norm().item()
        assert moved == pytest.approx(expected["change_norm"][name], rel=1e-3), name
        norm = weights[name].detach().double().norm().item()
        assert norm == pytest.approx(expected["weight_norm_after"][name], rel=1e-6), name


def test_frozen_weights_are_in_no_group() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    assert names_by_group(module, parameter_groups(module, 0.1)) == [{"1.bias"}, {"1.weight"}]


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"lr": 1.0, "betas": (0.9, 1.5)}, {"lr": 1.0, "weight_decay": -0.1}])
def test_values_out_of_range_are_the_users_mistake(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        build_optimizer(nn.Linear(2, 2), **wrong)


@pytest.mark.parametrize(("total", "share"), [(0, 0.1), (10, 1.0), (10, -0.1)])
def test_schedules_without_a_run_are_the_users_mistake(total: int, share: float) -> None:
    with pytest.raises(UserError):
        build_schedule(build_optimizer(nn.Linear(2, 2), lr=1.0), total, share)


def test_nothing_to_train_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no trainable weights"):
        parameter_groups(nn.ReLU(), 0.0)
