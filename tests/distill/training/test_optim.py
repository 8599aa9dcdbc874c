from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import pytest
import torch
from timm.optim import Muon, muon
from torch import nn

from distill.training import optim
from distill.training.optim import build_optimizer, build_schedule, parameter_groups
from students.errors import UserError


def optimizer_of(
    module: nn.Module, weight_decay: float = 0.0, no_decay_names: Collection[str] = (), **options: Any
) -> torch.optim.Optimizer:
    return build_optimizer(parameter_groups(module, weight_decay, no_decay_names), **options)


def names_by_group(module: nn.Module, groups: list[dict[str, Any]]) -> list[set[str]]:
    names = {id(weight): name for name, weight in module.named_parameters()}
    return [{names[id(weight)] for weight in group["params"]} for group in groups]


def test_stepping_gives_the_schedule_and_leaves_momentum_alone() -> None:
    optimizer = optimizer_of(nn.Linear(2, 2), lr=0.01, betas=(0.8, 0.9))
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
        optimizer = optimizer_of(nn.Linear(2, 2), lr=0.01)
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
    optimizer = optimizer_of(nn.Linear(2, 2), lr=1.0)
    schedule = build_schedule(optimizer, total, share, kind)
    for _ in range(total):
        assert 0 < optimizer.param_groups[0]["lr"] <= 1
        optimizer.step()
        schedule.step()


def test_cosine_rises_to_the_peak_and_falls_to_nothing() -> None:
    optimizer = optimizer_of(nn.Linear(2, 2), lr=2.0)
    schedule = build_schedule(optimizer, 8, 0.5, "cosine")
    rates = []
    for _ in range(9):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 1.7071067811865475, 1.0, 0.2928932188134524, 0.0])


def test_frozen_weights_are_in_no_group() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].requires_grad_(False)
    assert names_by_group(module, parameter_groups(module, 0.1)) == [{"1.bias"}, {"1.weight"}]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"lr": -1.0}, r"refuses lr -1\.0"),
        ({"lr": 1.0, "betas": (0.9, 1.5)}, r"betas \(0\.9, 1\.5\)"),
        ({"lr": 1.0, "weight_decay": -0.1}, r"weight decay -0\.1 is negative"),
    ],
)
def test_values_out_of_range_are_the_users_mistake(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        optimizer_of(nn.Linear(2, 2), **wrong)


@pytest.mark.parametrize(
    ("total", "share", "reason"), [(0, 0.1, "over 0 steps"), (10, 1.0, "share of 1.0"), (10, -0.1, "share of -0.1")]
)
def test_schedules_without_a_run_are_the_users_mistake(total: int, share: float, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        build_schedule(optimizer_of(nn.Linear(2, 2), lr=1.0), total, share)


def test_nothing_to_train_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no trainable weights"):
        parameter_groups(nn.ReLU(), 0.0)


@pytest.mark.parametrize("native", [True, False])
def test_muon_takes_a_step_of_even_singular_values_and_of_the_size_of_adamw(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optim, "has_bf16", lambda: native)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(8, 32, 3), nn.Linear(24, 48))
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    for weight in module.parameters():
        weight.grad = torch.randn_like(weight)
    optimizer_of(module, lr=1e-3, kind="muon").step()
    steps = {name: (before[name] - weight.detach()) / 1e-3 for name, weight in module.named_parameters()}
    for name in ("0.weight", "1.weight"):
        matrix = steps[name].flatten(1)
        values = torch.linalg.svdvals(matrix) / (0.2 * max(matrix.shape) ** 0.5)
        assert values.min() > 0.6, "orthogonal but for five iterations of Newton and Schulz"
        assert values.max() < 1.3
        assert matrix.square().mean().sqrt() == pytest.approx(0.2, rel=0.2)
    assert steps["0.bias"].abs().min() > 0.5, "weights of one dimension take a step of Adam"


def test_muon_computes_in_bf16_only_where_it_is_not_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    orthogonalise = muon.zeropower_via_newtonschulz
    monkeypatch.setattr(
        muon, "zeropower_via_newtonschulz", lambda *given, **named: seen.append(named) or orthogonalise(*given, **named)
    )
    for native in (True, False):
        monkeypatch.setattr(optim, "has_bf16", lambda native=native: native)
        module = nn.Linear(4, 4)
        for weight in module.parameters():
            weight.grad = torch.randn_like(weight)
        optimizer_of(module, lr=1e-3, kind="muon").step()
    assert [named["dtype"] for named in seen] == [torch.bfloat16, torch.float32]


def test_muon_of_many_weights_takes_the_step_of_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim, "has_bf16", lambda: True)
    torch.manual_seed(0)
    ours = nn.Sequential(
        nn.Conv2d(8, 16, 3), nn.Conv2d(8, 16, 3), nn.Linear(72, 16), nn.Linear(16, 72), nn.BatchNorm2d(4)
    )
    ours[1].to(memory_format=torch.channels_last)
    theirs = copy.deepcopy(ours)
    optimizer = optimizer_of(ours, lr=1e-2, weight_decay=0.1, kind="muon")
    reference = Muon(parameter_groups(theirs, 0.1), lr=1e-2, betas=(0.9, 0.999), nesterov=True)
    for _ in range(3):
        for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            weight.grad = torch.randn_like(weight)
            other.grad = weight.grad.clone()
        optimizer.step()
        reference.step()
    for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight, other, atol=2e-4, rtol=0)  # a tenth of a step: sums in bf16


def test_an_unknown_rate_of_muon() -> None:
    with pytest.raises(UserError, match="muon refuses lr -1"):
        optimizer_of(nn.Linear(2, 2), lr=-1.0, kind="muon")
