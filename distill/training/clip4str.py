"""Training of a CLIP4STR: permuted orders in both branches, frozen text layers, four parameter groups.

Source: docs/method.md, section 2 (CLIP4STR, arXiv 2305.14014).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor
from typing_extensions import Self

from distill.data.batch import Batch
from distill.schema import TeacherConfig
from distill.training.building import Log, check_init_settings, remap_reader
from distill.training.permuted import PermutedInputs, order_losses, permutation_options, prepare_orders
from distill.training.task import Task, batch_seed
from distill.training.teacher_sections import Clip4StrSection
from students.charset import Charset
from students.errors import UserError
from students.permuted import PermutationOptions, average_orders
from teachers.backbones import load_backbone, read_at
from teachers.clip4str import Clip4Str, Clip4StrConfig, CrossTraining

REFERENCE_BATCH = 512
"""Batch size, over all processes, that a base learning rate is meant for."""
WHOLE_TOWER = 12
"""From this many frozen blocks on the reference implementation freezes the whole tower, whatever its depth."""
UNDECAYED = ("bn", "ln", "bias", "logit_scale", "pos_queries", "text_embed")
"""Weights with one of these in their name are never decayed."""


class Clip4StrTask(Task):
    """A CLIP4STR under training.

    Args:
        reader: trained in place; the blocks that `section` names are frozen here.
        section: frozen blocks, what the cross branch looks at and weighs, the decoders' rates.
        permutations: orders of a batch.
        seed: they follow from it.
    """

    def __init__(
        self, reader: Clip4Str, section: Clip4StrSection | None = None,
        permutations: PermutationOptions | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.reader, self.seed = reader, seed
        self.section = section or Clip4StrSection()
        self.permutations = permutations or PermutationOptions()
        freeze(reader, self.section.text_freeze, self.section.image_freeze)

    def exported_model(self) -> Clip4Str:
        """The reader."""
        return self.reader

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the statistics of an image tower that is wholly frozen stay as they are."""
        super().train(mode)
        if self.section.image_freeze >= WHOLE_TOWER:
            self.reader.clip_model.visual.eval()
        return self

    def prepare(self, batch: Batch, step: int, progress: float, part: int = 0) -> PermutedInputs:
        """Encode the labels and draw the orders."""
        return prepare_orders(batch, self.reader.charset, self.permutations, batch_seed(self.seed, step, part))

    def forward(self, inputs: PermutedInputs) -> dict[str, Tensor]:
        """Compute `visual` and `cross`: sums over orders, weighted with their targets n_k and divided by sum n_k."""
        return self.terms(*self.order_losses(inputs))

    def terms(self, visual: list[Tensor], cross: list[Tensor], counts: list[Tensor]) -> dict[str, Tensor]:
        """Average what `order_losses` gave over the orders and weigh the branches."""
        terms = {"visual": average_orders(visual, counts)}
        if cross:
            terms["cross"] = self.section.cross_weight * average_orders(cross, counts)
        return terms

    def order_losses(self, inputs: PermutedInputs) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Compute the mean cross-entropy of each order in both branches (cross may be empty), and its targets n_k."""
        charset = self.reader.charset
        orders = inputs.orders(charset)
        features = self.reader.encode(inputs.images)
        cross_training = CrossTraining(self.section.cross_context, self.section.cross_mask)
        outputs = self.reader.permuted(features, inputs.target_ids, orders, cross_training)
        visual = order_losses([logits.visual for logits in outputs], orders, charset.pad_id)
        read = [logits.cross for logits in outputs if logits.cross is not None]
        cross = order_losses(read, orders, charset.pad_id) if read else []
        return visual, cross, [order.count for order in orders]

    def unused_parameters(self) -> tuple[str, ...]:
        """Name weights of the CLIP that the loss doesn't reach: its scale, and what the configuration leaves out."""
        config, clip = self.reader.config, "reader.clip_model."
        unused = ["logit_scale"]
        if not config.language or config.text_features == "embedding":
            unused += ["transformer.", "positional_embedding", "ln_final.", "text_projection"]
        if not config.language:
            unused += ["token_embedding."]
        if not config.share_dim and not config.language:
            unused += ["visual.proj"]
        return tuple(clip + name for name in unused)

    def learning_rate(self, base: float, grad_accum: int, devices: int, batch_per_device: int) -> float:
        """Scale linearly with the joined batch: `base * grad_accum * devices * batch / 512`, as in the reference."""
        return base * grad_accum * (devices * batch_per_device) / REFERENCE_BATCH

    def no_weight_decay(self) -> set[str]:
        """Name what is never decayed: fewer than two dimensions, or one of `UNDECAYED` in the name."""
        return {
            name for name, weight in self.named_parameters()
            if weight.ndim < 2 or any(part in name for part in UNDECAYED)
        }  # fmt: skip

    def parameter_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """Split into the reference's four groups: CLIP without and with decay, decoders without and with decay.

        Raises:
            UserError: when the decay is negative or nothing can be trained.
        """
        if weight_decay < 0:
            raise UserError(f"weight decay {weight_decay} is negative; give 0 or more")
        spared, section = self.no_weight_decay(), self.section
        trained = [(name, weight) for name, weight in self.named_parameters() if weight.requires_grad]
        groups: list[dict[str, Any]] = []
        for of_clip, factor, decay in ((True, 1.0, 1.0), (False, section.decoder_lr, section.decoder_decay)):
            own = [(name, weight) for name, weight in trained if name.startswith("reader.clip_model.") == of_clip]
            for decayed in (False, True):
                weights = [weight for name, weight in own if (name not in spared) == decayed]
                groups.append(
                    {"params": weights, "lr": lr * factor, "weight_decay": weight_decay * decay if decayed else 0.0}
                )
        return [group for group in groups if group["params"]]


def freeze(reader: Clip4Str, text_blocks: int, image_blocks: int) -> None:
    """Freeze weights of the CLIP as the reference implementation does.

    With 0 or more frozen text blocks the text tower's embeddings, positions and the CLIP's scale are frozen too, its
    final norm and projection are not; with 0 or more frozen image blocks class token and positions are frozen, the
    patches, the norms before and behind the blocks and the projection are not. From `WHOLE_TOWER` on the whole tower
    is frozen.
    """
    clip = reader.clip_model
    for name, weight in clip.named_parameters():
        if name.startswith("visual."):
            trained = ("visual.conv1", "visual.ln_pre", "visual.ln_post", "visual.proj")
            frozen = is_frozen(name.removeprefix("visual."), image_blocks, name.startswith(trained))
        else:
            frozen = is_frozen(name, text_blocks, name.startswith(("ln_final", "text_projection")))
        weight.requires_grad_(weight.requires_grad and not frozen)


def is_frozen(name: str, blocks: int, exempt: bool) -> bool:
    """Tell whether a tower's weight is frozen with `blocks` frozen blocks; `exempt` ones only with the whole tower."""
    if not 0 <= blocks < WHOLE_TOWER:
        return blocks >= WHOLE_TOWER
    if name.startswith("transformer.resblocks."):
        return int(name.split(".")[2]) < blocks
    return not exempt


def build_clip4str(config: TeacherConfig, log: Log = lambda _: None) -> Clip4StrTask:
    """Build the reader that `config` describes, with the weights to start from, and its task.

    Args:
        config: the configuration.
        log: gets a line about what `remap` changed in a loaded one, and when its positions are resized.

    Raises:
        UserError: for a CLIP, alphabet, folder or size that doesn't serve.
    """
    section = config.clip4str
    if config.init is None:
        reader = build_reader(config)
    else:
        reader = Clip4Str.from_pretrained(config.init)
        check_init_settings(reader, section, "clip4str", config.remap, log)
        if config.remap:
            reader = remap_reader(reader, config.init, section.charset, section.max_length, config.seed, log)
        resize(reader, picture_size(section), log)
    return Clip4StrTask(reader.train(), section, permutation_options(config.permutations, log), config.seed)


def picture_size(section: Clip4StrSection) -> tuple[int, int] | None:
    """Return the configured height and width; raises `UserError` for anything but two numbers."""
    size = section.image_size
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"clip4str.image_size={size}: give height and width, such as [64, 256]")
    return None if size is None else (size[0], size[1])


def resize(reader: Clip4Str, size: tuple[int, int] | None, log: Log) -> None:
    """Change the picture size of a loaded reader, and resize its grid of positions; None keeps its own.

    Raises:
        UserError: for a size that its CLIP can't read.
    """
    before = reader.image_size
    if size is None or size == before:
        return
    clip = read_at(reader.config.clip, reader.clip_model, size)
    reader.config = dataclasses.replace(reader.config, clip=clip)
    log(f"pictures of {size[0]} x {size[1]} pixels instead of {before[0]} x {before[1]}: positions are resized")


def build_reader(config: TeacherConfig) -> Clip4Str:
    """Build a reader around a CLIP; its decoders are new."""
    section = config.clip4str
    backbone, clip = load_backbone(section.clip, section.weights, picture_size(section))
    chosen = Clip4StrConfig(
        charset=Charset.load(section.charset).characters,
        caption_charset=Charset.load(section.caption_charset).characters,
        max_length=section.max_length,
        clip=backbone,
        decoder_depth=section.decoder_depth,
        decoder_heads=section.decoder_heads,
        dropout=section.dropout,
        context=section.context,
        share_dim=section.share_dim,
        text_features=section.text_features,
        pooled=section.pooled,
        image_detach=section.image_detach,
        language=section.language,
        decoding=section.decoding,
        refine_iters=section.refine_iters,
    )
    return Clip4Str(chosen, clip)
