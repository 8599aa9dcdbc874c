"""Task: a module whose forward returns named loss terms; all that the training loop knows of what is learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from distill.data.batch import Batch
from distill.training.optim import learning_rate, parameter_groups


class Task(nn.Module, ABC):
    """The trainable side of a run and its loss terms.

    The loop calls `prepare` outside of autograd and of any distributed wrapper (frozen teachers work there and so
    stay out of DDP, the optimizer and the checkpoint), then the module itself with what `prepare` gave.
    """

    @abstractmethod
    def prepare(self, batch: Batch, step: int, progress: float, part: int = 0) -> Any:
        """Build the inputs of `forward` from a batch on the right device.

        Args:
            batch: words and pictures.
            step: optimizer steps done before this batch.
            progress: share of the run that is over, 0 to 1.
            part: which of the batches of this step it is, 0 to `train.grad_accum` - 1.
        """

    @abstractmethod
    def forward(self, inputs: Any) -> dict[str, Tensor]:
        """Compute the named terms, each a scalar that is already weighted; their sum is the loss."""

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Sum the terms to the loss."""
        return torch.stack([term.float() for term in terms.values()]).sum()

    @abstractmethod
    def exported_model(self) -> nn.Module:
        """The part that is averaged, validated and exported."""

    @abstractmethod
    def no_weight_decay(self) -> set[str]:
        """Name the weights of two and more dimensions that are never decayed."""

    def learning_rate(self, base: float, grad_accum: int, devices: int, batch_per_device: int) -> float:
        """Scale a base learning rate to a run by the rule of docs/method.md, section 1.4; tasks may have their own."""
        return learning_rate(base, grad_accum, devices, batch_per_device)

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Split what is trained into the optimizer's groups; `lr` is the peak, for groups with a rate of their own.

        Raises:
            UserError: when the decay is negative or nothing can be trained.
        """
        return parameter_groups(self, weight_decay, self.no_weight_decay())

    @property
    def frozen(self) -> nn.Module | None:
        """The frozen teachers, which no gradient may reach; None when there is none."""
        return None

    @property
    def ctc_columns(self) -> int | None:
        """Columns that a CTC loss reads words off, of which some words need more; None without such a loss."""
        return None

    @property
    def second_view(self) -> bool:
        """Whether a loss compares two augmented views of each picture, which batches have to bring."""
        return False

    def unused_parameters(self) -> tuple[str, ...]:
        """Name weights, by the beginnings of their names, that get no gradient in some steps or in any."""
        return ()

    def log_metrics(self) -> dict[str, float]:
        """Return further numbers for TensorBoard, over the steps since the last call."""
        return {}

    def notes(self) -> list[str]:
        """Say in lines what was left out of the steps since the last call."""
        return []

    def find_unused_parameters(self) -> bool:
        """Tell DDP whether some trainable weights get no gradient in some steps."""
        unused = self.unused_parameters()
        return any(name.startswith(unused) for name, weight in self.named_parameters() if weight.requires_grad)


def batch_seed(seed: int, step: int, part: int = 0) -> int:
    """Return the seed of what is drawn for one batch: the same in a resumed run, another for each part of a step."""
    return (seed * 1_000_003 + step + part * 2**40) % 2**63
