"""A control for experiments: a teacher of the same build that has learned nothing."""

from __future__ import annotations

import torch
from torch import nn

from teachers.teacher import Teacher


@torch.no_grad()
def untrain(teacher: Teacher, seed: int) -> None:
    """Give a teacher fresh weights, in place: what guidance then brings, it brings without what a teacher knows.

    Layers start as torch starts them; weights that stand outside of torch's layers (positions, projections) are drawn
    from a normal distribution as wide as the trained ones.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in teacher.modules():
            restart = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
            if restart is not None:
                restart()
                continue
            for weight in module.parameters(recurse=False):
                if weight.dim() > 0:
                    nn.init.normal_(weight, std=float(weight.std()))
