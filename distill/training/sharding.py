"""FSDP: weights that are split over the processes, put together again to be averaged, validated and handed out."""

from __future__ import annotations

import copy

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.tensor import DTensor

from students.errors import UserError


def splits_weights(accelerator: Accelerator) -> bool:
    """Say whether weights are split over the processes."""
    return bool(accelerator.distributed_type == DistributedType.FSDP)


def check_splitting(accelerator: Accelerator) -> None:
    """See to it that FSDP, when it was asked for, can split a task.

    Raises:
        UserError: for its first version, which hides the single weights.
    """
    if not splits_weights(accelerator):
        return
    plugin = accelerator.state.fsdp_plugin
    if plugin.fsdp_version != 2:
        raise UserError("FSDP 1 can't train this; give --fsdp_version 2 (FSDP_VERSION=2), or leave FSDP out")
    # It would move the task to the meta device and load its weights again; the frozen teacher's are not among them.
    plugin.cpu_ram_efficient_loading = False


class Whole:
    """A module with all its weights on every process.

    Args:
        module: what is delivered, before Accelerate has prepared it.
        split: whether its weights will be split; when not, the module itself serves.
    """

    def __init__(self, module: nn.Module, split: bool) -> None:
        self._source = module
        self.module = copy.deepcopy(module) if split else module

    @torch.no_grad()
    def gather(self) -> nn.Module:
        """Give the module with its weights of now; every process calls it, since split weights come from all."""
        if self.module is not self._source:
            own = self.module.state_dict()
            for name, value in self._source.state_dict().items():
                own[name].copy_(value.full_tensor() if isinstance(value, DTensor) else value)
        return self.module
