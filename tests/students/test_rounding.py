from __future__ import annotations

import torch
from torch import nn

from students.rounding import FEWEST, LARGEST, round_weights


def test_weights_take_255_values_a_channel_and_stay_there() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(16, 8, 3), nn.Flatten(), nn.Linear(64, 32), nn.Linear(4, 4))
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    assert round_weights(module) == 16 * 8 * 9 + 64 * 32
    for name, weight in module.named_parameters():
        if before[name].ndim < 2 or before[name].numel() < FEWEST:
            assert torch.equal(weight, before[name])
            continue
        scale = before[name].flatten(1).abs().amax(dim=1, keepdim=True) / LARGEST
        whole = weight.detach().flatten(1) / scale
        torch.testing.assert_close(whole, whole.round(), atol=1e-4, rtol=0)
        assert ((weight - before[name]).flatten(1).abs() <= 0.5001 * scale).all()
    rounded = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    module.half().float()
    round_weights(module)
    for name, weight in module.named_parameters():
        torch.testing.assert_close(weight.detach(), rounded[name], atol=0, rtol=1e-3, msg="the same whole numbers")


def test_a_channel_of_zeros_stays() -> None:
    layer = nn.Linear(64, 16)
    with torch.no_grad():
        layer.weight[3] = 0
    round_weights(layer)
    assert torch.equal(layer.weight[3], torch.zeros(64))
    assert torch.isfinite(layer.weight).all()
