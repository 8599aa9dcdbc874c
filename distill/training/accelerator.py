"""Accelerate for a run: precision, threads, kernels, split weights; and the process as it was when the run is over."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType
from torch import nn
from torch.distributed.tensor import DTensor

from distill.processes import exit_with_others
from distill.training.sections import TrainSection
from students.errors import UserError

Precision = Literal["no", "bf16", "fp16"]


@contextmanager
def own_process_state() -> Iterator[None]:
    """Keep what a run sets for the whole process within the block, so that any number of runs can follow each other.

    That is Accelerate's state (its precision and accumulation would be those of the first run for ever), torch's
    thread count and choice of kernels, and the global generators of random numbers.
    """
    accelerate: list[dict[str, Any]] = [AcceleratorState._shared_state, GradientState._shared_state]
    before = [dict(state) for state in accelerate]
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    for state in accelerate:
        state.clear()
    try:
        yield
    finally:
        for state, stored in zip(accelerate, before, strict=True):
            state.clear()
            state.update(stored)
        if PartialState._shared_state.get("num_processes", 1) > 1 and not torch.distributed.is_initialized():
            PartialState._shared_state.clear()  # the group of processes that it describes has been given up
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        random.setstate(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002
        torch.set_rng_state(generators[2])


def choose_precision(precision: Literal["auto", "no", "bf16", "fp16"]) -> Precision:
    """Turn `auto` into bf16 where GPU or processor has bf16 arithmetic, into fp16 on other GPUs, else into no."""
    if precision != "auto":
        return precision
    if has_bf16():
        return "bf16"
    return "fp16" if torch.cuda.is_available() else "no"


def has_bf16() -> bool:
    """Tell whether the GPU, or without one the processor, has bf16 arithmetic; elsewhere it is emulated, slowly."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def make_accelerator(train: TrainSection, find_unused_parameters: bool = False) -> Accelerator:
    """Build the accelerator of a run and set its thread count and kernels; call it within `own_process_state`.

    Args:
        train: precision, accumulation, threads, kernels.
        find_unused_parameters: whether some trainable weights get no gradient in some steps (DDP asks).

    Raises:
        UserError: for a precision that the machine does not compute in.
    """
    if train.threads > 0:
        torch.set_num_threads(train.threads)
    if train.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which cuBLAS has no such products
        torch.use_deterministic_algorithms(True)
    precision = choose_precision(train.precision)
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            gradient_accumulation_steps=train.grad_accum,
            step_scheduler_with_optimizer=False,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=find_unused_parameters)],
        )
    except ValueError as error:
        if precision == "no":
            raise
        raise UserError(
            f"train.precision={precision} can't be had here ({error}); take no, bf16, or auto for what the machine has"
        ) from None
    exit_with_others()
    check_splitting(accelerator)
    return accelerator


def describe_processes(accelerator: Accelerator) -> str:
    """Describe how many processes train, on what, in which precision: launchers differ in what they start."""
    count, threads = accelerator.num_processes, torch.get_num_threads()
    split = ", weights split over them (FSDP)" if splits_weights(accelerator) else ""
    return (
        f"world size {count}: {count} process{'es' if count > 1 else ''} on {accelerator.device.type}, "
        f"{threads} CPU thread{'s' if threads > 1 else ''} each, precision {accelerator.mixed_precision}{split}"
    )


def splits_weights(accelerator: Accelerator) -> bool:
    """Tell whether weights are split over the processes (FSDP)."""
    return bool(accelerator.distributed_type == DistributedType.FSDP)


def check_splitting(accelerator: Accelerator) -> None:
    """Prepare FSDP, when it was asked for, to split a task.

    Raises:
        UserError: for its first version, which hides the single weights.
    """
    if not splits_weights(accelerator):
        return
    plugin = accelerator.state.fsdp_plugin
    if plugin.fsdp_version != 2:
        raise UserError("FSDP 1 can't train this; give --fsdp_version 2 (FSDP_VERSION=2), or leave FSDP out")
    # Otherwise Accelerate moves the task to the meta device and reloads its weights, without the frozen teacher's.
    plugin.cpu_ram_efficient_loading = False


class GatheredModel:
    """A module with all its weights on every process, to be averaged, validated and exported.

    Args:
        module: the exported model, before Accelerate has prepared it.
        split: whether its weights will be split; when not, the module itself serves.
    """

    def __init__(self, module: nn.Module, split: bool) -> None:
        self._source = module
        self.module = copy.deepcopy(module) if split else module

    @torch.no_grad()
    def gather(self) -> nn.Module:
        """Return the module with its current weights; every process calls it, since split weights come from all."""
        if self.module is not self._source:
            own = self.module.state_dict()
            for name, value in self._source.state_dict().items():
                own[name].copy_(value.full_tensor() if isinstance(value, DTensor) else value)
        return self.module
