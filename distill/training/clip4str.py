"""Training of a CLIP4STR: permuted orders in both branches, frozen text layers, four groups of weights (METHOD 2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from typing_extensions import Self

from distill.data.batch import Batch
from distill.training.permuted import PermutedInputs, order_losses, prepare_orders
from distill.training.task import Task
from students.errors import UserError
from students.permuted import PermutationOptions, average_orders
from teachers.clip4str import Clip4Str, CrossTraining

REFERENCE_BATCH = 512
"""Batch size, over all processes, that a base learning rate is meant for."""
WHOLE_TOWER = 12
"""From this many frozen blocks on the published program freezes a tower whole, whatever its depth."""
UNDECAYED = ("bn", "ln", "bias", "logit_scale", "pos_queries", "text_embed")
"""Weights with one of these in their name are never decayed."""


@dataclass(frozen=True)
class Clip4StrOptions:
    """What can be chosen about the training; the defaults are the published ones."""

    permutations: PermutationOptions = field(default_factory=PermutationOptions)
    """Orders of a batch."""
    cross: CrossTraining = field(default_factory=CrossTraining)
    """What the cross branch looks at."""
    cross_weight: float = 1.0
    """Weight of the cross branch's loss."""
    text_freeze: int = 6
    """Frozen blocks of the text tower; 0 freezes its embeddings only, -1 nothing, 12 or more everything."""
    image_freeze: int = -1
    """Frozen blocks of the image tower; -1 freezes nothing, 12 or more everything."""
    decoder_lr: float = 19.0
    """Learning rate of the decoders over that of the CLIP."""
    decoder_decay: float = 1.0
    """Weight decay of the decoders over that of the CLIP."""
    seed: int = 0
    """Seed of the orders."""


class Clip4StrTask(Task):
    """A CLIP4STR under training.

    Args:
        reader: trained in place; what `options` names is frozen here.
        options: orders, weights, frozen blocks.
    """

    def __init__(self, reader: Clip4Str, options: Clip4StrOptions | None = None) -> None:
        super().__init__()
        self.reader = reader
        self.options = options or Clip4StrOptions()
        freeze(reader, self.options.text_freeze, self.options.image_freeze)

    def exported_model(self) -> Clip4Str:
        """The reader."""
        return self.reader

    def train(self, mode: bool = True) -> Self:
        """Train; an image tower that rests whole keeps its statistics too."""
        super().train(mode)
        if self.options.image_freeze >= WHOLE_TOWER:
            self.reader.clip_model.visual.eval()
        return self

    def prepare(self, batch: Batch, step: int, progress: float) -> PermutedInputs:
        """Encode the labels and draw the orders."""
        return prepare_orders(batch, self.reader.charset, self.options.permutations, self.options.seed, step)

    def forward(self, inputs: PermutedInputs) -> dict[str, Tensor]:
        """Compute `visual` and `cross`: sums over orders, weighted with their targets n_k and divided by sum n_k."""
        return self.terms(*self.order_losses(inputs))

    def terms(self, visual: list[Tensor], cross: list[Tensor], counts: list[Tensor]) -> dict[str, Tensor]:
        """Average what `order_losses` gave over the orders and weigh the branches."""
        terms = {"visual": average_orders(visual, counts)}
        if cross:
            terms["cross"] = self.options.cross_weight * average_orders(cross, counts)
        return terms

    def order_losses(self, inputs: PermutedInputs) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Give the mean cross-entropy of each order in both branches (cross may be empty), and its targets n_k."""
        charset = self.reader.charset
        orders = inputs.orders(charset)
        features = self.reader.encode(inputs.images)
        found = self.reader.permuted(features, inputs.target_ids, orders, self.options.cross)
        visual = order_losses([logits.visual for logits in found], orders, charset.pad_id)
        read = [logits.cross for logits in found if logits.cross is not None]
        cross = order_losses(read, orders, charset.pad_id) if read else []
        return visual, cross, [order.count for order in orders]

    def unused_parameters(self) -> tuple[str, ...]:
        """Name weights of the CLIP that the loss can't reach: its scale, and what the switches leave out."""
        config, clip = self.reader.config, "reader.clip_model."
        idle = ["logit_scale"]
        if not config.language or config.text_features == "embedding":
            idle += ["transformer.", "positional_embedding", "ln_final.", "text_projection"]
        if not config.language:
            idle += ["token_embedding."]
        if not config.share_dim and not config.language:
            idle += ["visual.proj"]
        return tuple(clip + name for name in idle)

    def always_graded(self) -> bool:
        """Say whether every trainable weight gets a gradient in every step."""
        idle = self.unused_parameters()
        return not any(name.startswith(idle) for name, weight in self.named_parameters() if weight.requires_grad)

    def learning_rate(self, base: float, grad_accum: int, devices: int, batch_per_device: int) -> float:
        """Scale linearly with the joined batch: `base * grad_accum * devices * batch / 512` (published)."""
        return base * grad_accum * (devices * batch_per_device) / REFERENCE_BATCH

    def no_weight_decay(self) -> set[str]:
        """Name what is never decayed: fewer than two dimensions, or one of `UNDECAYED` in the name."""
        return {
            name for name, weight in self.named_parameters()
            if weight.ndim < 2 or any(part in name for part in UNDECAYED)
        }  # fmt: skip

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Give the published four groups: CLIP without and with decay, decoders without and with decay.

        Raises:
            UserError: when the decay is negative or nothing can be trained.
        """
        if weight_decay < 0:
            raise UserError(f"weight decay {weight_decay} is negative; give 0 or more")
        spared, options = self.no_weight_decay(), self.options
        trained = [(name, weight) for name, weight in self.named_parameters() if weight.requires_grad]
        groups: list[dict[str, Any]] = []
        for of_clip, factor, decay in ((True, 1.0, 1.0), (False, options.decoder_lr, options.decoder_decay)):
            own = [(name, weight) for name, weight in trained if name.startswith("reader.clip_model.") == of_clip]
            for decayed in (False, True):
                weights = [weight for name, weight in own if (name not in spared) == decayed]
                groups.append(
                    {"params": weights, "lr": lr * factor, "weight_decay": weight_decay * decay if decayed else 0.0}
                )
        return [group for group in groups if group["params"]]


def freeze(reader: Clip4Str, text_blocks: int, image_blocks: int) -> None:
    """Take weights of the CLIP out of training as published.

    With 0 or more frozen text blocks the text tower's embeddings, positions and the CLIP's scale rest too, its final
    norm and projection don't; with 0 or more frozen image blocks class token and positions rest, the patches, the
    norms before and behind the blocks and the projection don't. From `WHOLE_TOWER` on a tower rests whole.
    """
    clip = reader.clip_model
    for name, weight in clip.named_parameters():
        if name.startswith("visual."):
            kept = ("visual.conv1", "visual.ln_pre", "visual.ln_post", "visual.proj")
            rests = rests_in_tower(name.removeprefix("visual."), image_blocks, name.startswith(kept))
        else:
            rests = rests_in_tower(name, text_blocks, name.startswith(("ln_final", "text_projection")))
        weight.requires_grad_(weight.requires_grad and not rests)


def rests_in_tower(name: str, blocks: int, kept: bool) -> bool:
    """Say whether a weight rests with `blocks` frozen blocks; `kept` ones learn unless the whole tower rests."""
    if not 0 <= blocks < WHOLE_TOWER:
        return blocks >= WHOLE_TOWER
    if name.startswith("transformer.resblocks."):
        return int(name.split(".")[2]) < blocks
    return not kept
