"""Optimizer and schedule: AdamW or Muon with parameter groups, and a learning rate that is counted in optimizer steps.

Source: docs/method.md, section 1.4 (CLIP-OCR, arXiv 2310.04999).
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Any, Literal

import torch
from timm.optim import Muon, muon, param_groups_weight_decay
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from distill.training.accelerator import has_bf16
from students.errors import UserError

REFERENCE_BATCH = 256
"""Batch size that a base learning rate is meant for."""


def learning_rate(base: float, grad_accum: int, devices: int, batch_per_device: int) -> float:
    """Scale a base learning rate to a run: `base * grad_accum * sqrt(devices) * batch / 256`.

    As in the reference implementation: linear in the batch of one device, with the square root of how many there are.
    """
    return base * grad_accum * math.sqrt(devices) * batch_per_device / REFERENCE_BATCH


def parameter_groups(
    module: nn.Module, weight_decay: float, no_decay_names: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Split a module's trainable weights into those that are decayed and those that never are.

    Never decayed: weights of one dimension, biases, and the named ones (position queries, character embeddings, class
    token, position embedding). The first group is the one without decay; without any decay it is the only one.

    Args:
        module: its trainable parameters are taken.
        weight_decay: decay of the others.
        no_decay_names: full names of weights that aren't decayed whatever their shape.

    Raises:
        UserError: when the decay is negative or nothing can be trained.
    """
    if weight_decay < 0:
        raise UserError(f"weight decay {weight_decay} is negative; give 0 or more")
    groups: list[dict[str, Any]] = param_groups_weight_decay(
        module, weight_decay, no_weight_decay_list=tuple(no_decay_names)
    )
    if not groups:
        raise UserError(f"{type(module).__name__} has no trainable weights; nothing can be learned")
    return groups


class BatchedMuon(Muon):
    """timm's Muon with weights of one shape orthogonalised together, and in float32 where bf16 is emulated.

    One by one, the five iterations for every matrix start about as many operations on a GPU as a small student's passes
    forward and backward; in emulated bf16 they take a processor seconds.
    """

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step."""
        one_by_one = muon.muon
        muon.muon = _muon_by_shape  # type: ignore[assignment]
        try:
            return super().step(closure)
        finally:
            muon.muon = one_by_one


def _muon_by_shape(
    weights: list[Tensor], gradients: list[Tensor], averages: list[Tensor], *, lr: float, weight_decay: float,
    momentum: float, ns_steps: int, ns_coefficients: str, eps: float, safety_factor: float, **others: Any,
) -> None:  # fmt: skip
    """Do what timm's function of this signature does, with Nesterov's momentum and convolutions as matrices."""
    torch._foreach_mul_(weights, 1 - lr * weight_decay)
    torch._foreach_lerp_(averages, gradients, 1 - momentum)
    updates = torch._foreach_lerp(gradients, averages, momentum)
    coefficients = muon.resolve_ns_coefficients(ns_coefficients, muon._COEFFICIENTS)
    kind = torch.bfloat16 if has_bf16() else torch.float32
    shapes: dict[torch.Size, list[int]] = defaultdict(list)
    for number, update in enumerate(updates):
        shapes[update.flatten(1).shape].append(number)
    for shape, numbers in shapes.items():
        matrices = torch.stack([updates[number].flatten(1) for number in numbers])
        steps = muon.zeropower_via_newtonschulz(
            matrices, ns_steps, coefficients, eps, safety_factor, dtype=kind
        ).float()  # fmt: skip
        chosen = [weights[number] for number in numbers]
        torch._foreach_add_(
            chosen, [step.view_as(weight) for step, weight in zip(steps, chosen, strict=True)],
            alpha=-lr * muon.get_lr_scale(shape),
        )  # fmt: skip


def build_optimizer(
    groups: list[dict[str, Any]],
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    kind: Literal["adamw", "muon"] = "adamw",
) -> torch.optim.Optimizer:
    """Build the optimizer of groups of weights, such as those of `parameter_groups`.

    `muon` orthogonalises the update of each weight of two and more dimensions (convolutions as matrices of a row per
    output channel) and scales it to the size of AdamW's (arXiv 2502.16982), so that rates and decays carry over; all
    other weights are NAdamW's.

    Args:
        groups: each with its own decay, and perhaps its own `lr`.
        lr: largest learning rate of the others, see `learning_rate`.
        betas: AdamW's or NAdamW's; Muon's momentum is 0.95.
        eps: AdamW's.
        kind: which optimizer.

    Raises:
        UserError: when lr, betas, eps or a weight decay is out of range.
    """
    try:
        if kind == "muon":
            return BatchedMuon(groups, lr=lr, betas=betas, nesterov=True)
        return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)
    except ValueError as error:
        raise UserError(f"{kind} refuses lr {lr}, betas {betas}, eps {eps}: {error}") from None


def build_schedule(
    optimizer: torch.optim.Optimizer,
    total_steps: int,
    warmup_share: float,
    kind: Literal["onecycle", "cosine"] = "onecycle",
) -> LRScheduler:
    """Build the schedule of a run from the optimizer's learning rate, its peak; step it once per optimizer step.

    `onecycle`, as in the reference implementation, is a cosine from peak / 25 up to the peak at step
    `warmup_share * total_steps - 1`, then a cosine down to peak / 250,000 in the last step, without cycling momentum.
    `cosine` rises linearly over the same share and falls to 0 after the last step.

    Args:
        optimizer: freshly built: its learning rate is the peak.
        total_steps: optimizer steps of the run, accumulated batches counting once.
        warmup_share: share of them that warms up, 0 to below 1.
        kind: form of the curve.

    Raises:
        UserError: when there are no steps or the share is out of range.
    """
    if total_steps < 1:
        raise UserError(f"a schedule over {total_steps} steps is empty; give 1 step or more")
    if not 0 <= warmup_share < 1:
        raise UserError(f"a warm-up over a share of {warmup_share} leaves no run; give 0 to below 1, such as 0.075")
    if kind == "cosine":
        return LambdaLR(optimizer, _WarmCosine(total_steps, warmup_share))
    share = float(warmup_share)
    if share * total_steps == 1:
        share *= 1 - 1e-9  # torch divides by the length of the rise, which would be 0; so the first step is the peak
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=total_steps, pct_start=share, cycle_momentum=False)


def set_position(schedule: LRScheduler, steps: int) -> None:
    """Move a schedule that was built anew to where it stands after a number of optimizer steps, in closed form."""
    schedule.last_epoch = steps
    schedule._step_count = steps + 1
    schedule._get_lr_called_within_step = True
    schedule._last_lr = [float(rate) for rate in schedule.get_lr()]
    schedule._get_lr_called_within_step = False
    for group, rate in zip(schedule.optimizer.param_groups, schedule._last_lr, strict=True):
        group["lr"] = rate


class ConfiguredRates:
    """Rates and schedule as configured, put back after a checkpoint has overwritten them."""

    def __init__(self, optimizer: torch.optim.Optimizer, schedule: LRScheduler) -> None:
        self._groups = [
            {name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups
        ]
        self._schedule = copy.deepcopy(schedule.state_dict())

    def apply(self, optimizer: torch.optim.Optimizer, schedule: LRScheduler, total_steps: int) -> None:
        """Set both as configured, at the number of steps that the checkpoint has done."""
        done = min(schedule.last_epoch, total_steps)
        for group, configured in zip(optimizer.param_groups, self._groups, strict=True):
            group.update(configured)
        schedule.load_state_dict(self._schedule)
        set_position(schedule, done)


class _WarmCosine:
    """Share of the peak at a step: a linear rise, then a cosine to 0."""

    def __init__(self, total_steps: int, warmup_share: float) -> None:
        self.total_steps = total_steps
        self.warmup_steps = round(warmup_share * total_steps)

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        done = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
