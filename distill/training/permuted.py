"""Training in permuted orders: what PARSeq and CLIP4STR have in common, and the task of PARSeq.

Source: docs/method.md, sections 2 and 3 (PARSeq, arXiv 2207.06966).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.data.batch import Batch
from distill.schema import TeacherConfig
from distill.training.building import Log, check_init_settings, remap_reader
from distill.training.task import Task, batch_seed
from distill.training.teacher_sections import ParseqSection, PermutationsSection
from students.charset import Charset
from students.errors import UserError
from students.parseq import SIZES, Parseq, ParseqConfig
from students.permuted import Order, PermutationOptions, average_orders, draw_permutations, permuted_orders


@dataclass(frozen=True)
class PermutedInputs:
    """One batch as the trainable side takes it."""

    images: Tensor
    """(N, 3, H, W)."""
    target_ids: Tensor
    """(N, L + 2) start, characters, end, padding."""
    permutations: Tensor
    """(K, L + 2) positions in K orders."""

    def orders(self, charset: Charset) -> list[Order]:
        """Compute masks and targets of each order."""
        return list(permuted_orders(self.target_ids, self.permutations, charset))


def prepare_orders(batch: Batch, charset: Charset, options: PermutationOptions, seed: int) -> PermutedInputs:
    """Encode the labels and draw the orders; `seed` is that of the batch."""
    target_ids = charset.encode(batch.labels)
    source = torch.Generator().manual_seed(seed)
    permutations = draw_permutations(target_ids.shape[1] - 2, options, source)
    device = batch.images.device
    return PermutedInputs(batch.images, target_ids.to(device), permutations.to(device))


def order_losses(logits: Sequence[Tensor], orders: Sequence[Order], pad_id: int) -> list[Tensor]:
    """Compute each order's mean cross-entropy over its n_k targets, from its logits (N, T, C + 1)."""
    return [
        F.cross_entropy(order_logits.float().flatten(0, 1), order.targets.flatten(), ignore_index=pad_id)
        for order_logits, order in zip(logits, orders, strict=True)
    ]


class ParseqTask(Task):
    """A PARSeq under training: `sum_k n_k CE_k / sum_k n_k` over the orders of a batch.

    Args:
        reader: trained in place.
        permutations: which orders.
        seed: they follow from it.
        spare_embeddings: exempt positions and embeddings from weight decay; the reference doesn't.
    """

    def __init__(
        self, reader: Parseq, permutations: PermutationOptions | None = None, seed: int = 0,
        spare_embeddings: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.reader, self.seed, self.spare_embeddings = reader, seed, spare_embeddings
        self.permutations = permutations or PermutationOptions()

    def exported_model(self) -> nn.Module:
        """The reader."""
        return self.reader

    def no_weight_decay(self) -> set[str]:
        """Name positions and embeddings where they are exempt.

        The reference implementation has such a list, but its training module doesn't pass it on.
        """
        return {f"reader.{name}" for name in self.reader.no_weight_decay()} if self.spare_embeddings else set()

    def prepare(self, batch: Batch, step: int, progress: float, part: int = 0) -> PermutedInputs:
        """Encode the labels and draw the orders."""
        return prepare_orders(batch, self.reader.charset, self.permutations, batch_seed(self.seed, step, part))

    def forward(self, inputs: PermutedInputs) -> dict[str, Tensor]:
        """Compute the one term, `permuted`."""
        losses, counts = self.order_losses(inputs)
        return {"permuted": average_orders(losses, counts)}

    def order_losses(self, inputs: PermutedInputs) -> tuple[list[Tensor], list[Tensor]]:
        """Compute the mean cross-entropy of each order, and its targets n_k."""
        charset = self.reader.charset
        orders = inputs.orders(charset)
        logits = self.reader.permuted(inputs.images, inputs.target_ids, orders)
        return order_losses(logits, orders, charset.pad_id), [order.count for order in orders]


def build_parseq(config: TeacherConfig, log: Log = lambda _: None) -> ParseqTask:
    """Build the reader that `config` describes, or load the one to start from, and its task.

    Args:
        config: the configuration.
        log: gets a line about what `remap` changed in a loaded one.

    Raises:
        UserError: for an alphabet, folder or size that doesn't serve.
    """
    section = config.parseq
    if config.init is None:
        reader = Parseq(parseq_config(section))
    else:
        reader = Parseq.from_pretrained(config.init)
        check_pictures(reader, section)
        check_init_settings(reader, section, "parseq", config.remap, log)
        if config.remap:
            reader = remap_reader(reader, config.init, section.charset, section.max_length, config.seed, log)
    options = permutation_options(config.permutations, log)
    return ParseqTask(reader.train(), options, config.seed, section.spare_embeddings)


def permutation_options(section: PermutationsSection, log: Log) -> PermutationOptions:
    """Read how orders are drawn; `log` gets a line where mirror images leave one out."""
    if section.mirrored and section.count % 2:
        log(f"permutations.count={section.count}: with mirror images there are {section.count - 1} orders")
    return PermutationOptions(section.count, section.forward, section.mirrored)


def check_pictures(reader: Parseq, section: ParseqSection) -> None:
    """Refuse pictures or patches of another size than the reader's; raises `UserError`."""
    for name in ("image_size", "patch"):
        own, sides = getattr(reader.config, name), getattr(section, name)
        if sides is not None and tuple(sides) != own:
            raise UserError(f"parseq.{name}={sides}: the reader of init has {list(own)}; leave parseq.{name} out")


def parseq_config(section: ParseqSection) -> ParseqConfig:
    """Build the configuration of a size, with its changes; raises `UserError` for sizes that can't be had."""
    base = SIZES[section.size](Charset.load(section.charset), section.max_length)
    changed: dict[str, Any] = {"decoding": section.decoding, "refine_iters": section.refine_iters}
    for name in ("width", "depth", "decoder_depth", "dropout"):
        if (value := getattr(section, name)) is not None:
            changed[name] = value
    for name in ("image_size", "patch"):
        if (sides := getattr(section, name)) is not None:
            if len(sides) != 2 or min(sides) < 1:
                raise UserError(f"parseq.{name}={sides}: give height and width, such as [32, 128]")
            changed[name] = tuple(sides)
    if section.width is not None:
        if section.width < 64 or section.width % 64:
            raise UserError(f"parseq.width={section.width}: give a multiple of 64")
        changed |= {"heads": section.width // 64, "decoder_heads": section.width // 32}
    return dataclasses.replace(base, **changed)
