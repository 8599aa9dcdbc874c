"""Moving average of the weights: what is validated and exported when averaging is on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from students.errors import UserError

Tensors = tuple[Tensor, ...] | list[Tensor]
"""Weights of one device and type."""


class WeightAverage:
    """Exponential moving average of a module's weights and buffers, on torch's `AveragedModel`.

    The decay warms up as `min(decay, (1 + n) / (10 + n))` after n averaged steps, so that the random weights of the
    start are forgotten soon. Buffers such as the statistics of a BatchNorm are averaged too; counts are copied.

    Args:
        module: what is averaged, without any distributed wrapper; the average starts as a copy of it.
        decay: largest decay, 0 (no averaging) to below 1.

    Raises:
        UserError: when the decay is out of range.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"a decay of {decay} averages nothing; give 0 to below 1, 0.999 for instance")
        self.decay = decay
        self._averaged = AveragedModel(module, multi_avg_fn=self._blend, use_buffers=True)
        self._averaged.requires_grad_(False)
        self._averaged.eval()

    @property
    def module(self) -> nn.Module:
        """The averaged module, in eval mode and without gradients."""
        averaged: nn.Module = self._averaged.module
        return averaged

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Average in the weights of `module`; call it after every optimizer step."""
        self._averaged.update_parameters(module)
        # Buffers that are not saved are constants such as attention masks: an average of -inf would be NaN.
        saved = module.state_dict().keys()
        constants = dict(self.module.named_buffers())
        for name, buffer in module.named_buffers():
            if name not in saved:
                constants[name].copy_(buffer)

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and the number of updates."""
        return self._averaged.state_dict()

    def load_state_dict(self, stored: dict[str, Any]) -> None:
        """Restore averaged weights and the number of updates."""
        self._averaged.load_state_dict(stored)

    def _blend(self, averaged: Tensors, current: Tensors, steps: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            n = int(steps)
            get_ema_multi_avg_fn(min(self.decay, (1 + n) / (10 + n)))(averaged, current, steps)
        else:  # a mean of counts would be cut to whole numbers
            torch._foreach_copy_(averaged, current)
