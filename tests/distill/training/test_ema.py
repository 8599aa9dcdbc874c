from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from distill.training.ema import WeightAverage
from students.errors import UserError


def small_module() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train_one_step(module: nn.Module) -> None:
    module(torch.randn(8, 3))
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn_like(weight))


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9])
def test_average_follows_the_formula(decay: float) -> None:
    module = small_module()
    average = WeightAverage(module, decay)
    expected: dict[str, torch.Tensor] = {}
    for n in range(6):
        train_one_step(module)
        average.update(module)
        now = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        share = 0.0 if n == 0 else min(decay, (1 + n) / (10 + n))
        expected = {
            name: share * expected[name] + (1 - share) * new if expected and new.is_floating_point() else new
            for name, new in now.items()
        }
    assert average.state_dict()["n_averaged"] == 6
    torch.testing.assert_close(dict(average.module.state_dict()), expected)


def test_batchnorm_statistics_are_averaged_and_counts_copied() -> None:
    module = small_module()
    average = WeightAverage(module, 0.9)
    for _ in range(3):
        train_one_step(module)
        average.update(module)
    own, averaged = module.state_dict(), average.module.state_dict()
    assert not torch.equal(own["1.running_mean"], averaged["1.running_mean"])
    assert averaged["1.num_batches_tracked"] == own["1.num_batches_tracked"] == 3


def test_average_stands_aside_from_training() -> None:
    module = small_module()
    average = WeightAverage(module, 0.9)
    assert not average.module.training
    assert module.training
    assert not any(weight.requires_grad for weight in average.module.parameters())
    assert all(weight.requires_grad for weight in module.parameters())
    before = copy.deepcopy(average.module.state_dict())
    train_one_step(module)
    torch.testing.assert_close(average.module.state_dict(), before, rtol=0, atol=0)


def test_resumed_is_unbroken() -> None:
    module = small_module()
    average = WeightAverage(module, 0.95)
    for _ in range(4):
        train_one_step(module)
        average.update(module)
    resumed = WeightAverage(small_module(), 0.95)
    resumed.load_state_dict(copy.deepcopy(average.state_dict()))
    assert resumed.state_dict()["n_averaged"] == 4
    train_one_step(module)
    for one in (average, resumed):
        one.update(module)
    torch.testing.assert_close(resumed.state_dict(), average.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_the_users_mistake(decay: float) -> None:
    with pytest.raises(UserError, match="decay"):
        WeightAverage(small_module(), decay)


def test_a_mask_of_infinities_stays_what_it_is() -> None:
    module = nn.Linear(2, 2)
    module.register_buffer("mask", torch.full((2, 2), float("-inf")).triu(1), persistent=False)
    average = WeightAverage(module, 0.9)
    for _ in range(3):
        average.update(module)
    assert torch.equal(average.module.mask, module.mask)
