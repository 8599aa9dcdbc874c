"""Building the training of a CLIP4STR from its configuration."""

from __future__ import annotations

import dataclasses

from distill.config import Clip4StrSection, TeacherConfig
from distill.training.clip4str import Clip4StrOptions, Clip4StrTask
from distill.training.starting import Say, restart
from students.charset import Charset
from students.errors import UserError
from students.permuted import PermutationOptions
from teachers.backbones import load_backbone, read_at
from teachers.clip4str import Clip4Str, CrossTraining
from teachers.clip4str_config import Clip4StrConfig


def build_clip4str(config: TeacherConfig, say: Say = lambda _: None) -> Clip4StrTask:
    """Build the reader that `config` describes, with the weights to start from, and its task.

    Args:
        config: the configuration.
        say: told what `remap` made of a loaded one, and when its positions are resized.

    Raises:
        UserError: for a CLIP, alphabet, folder or size that doesn't serve.
    """
    section, permutations = config.clip4str, config.permutations
    options = Clip4StrOptions(
        permutations=PermutationOptions(permutations.count, permutations.forward, permutations.mirrored),
        cross=CrossTraining(section.cross_context, section.cross_mask),
        cross_weight=section.cross_weight,
        text_freeze=section.text_freeze,
        image_freeze=section.image_freeze,
        decoder_lr=section.decoder_lr,
        decoder_decay=section.decoder_decay,
        seed=config.seed,
    )
    if config.init is None:
        reader = build_reader(config)
    else:
        reader = Clip4Str.from_pretrained(config.init)
        if config.remap:
            reader = restart(reader, config.init, section.charset, section.max_length, config.seed, say)
        resize(reader, picture_size(section), say)
    return Clip4StrTask(reader.train(), options)


def picture_size(section: Clip4StrSection) -> tuple[int, int] | None:
    """Give the configured height and width; raises `UserError` for anything but two numbers."""
    size = section.image_size
    if size is not None and len(size) != 2:
        raise UserError(f"clip4str.image_size={size}: give height and width, such as [64, 256]")
    return None if size is None else (size[0], size[1])


def resize(reader: Clip4Str, size: tuple[int, int] | None, say: Say) -> None:
    """Have a loaded reader read at another size, its grid of positions resized; None keeps its own.

    Raises:
        UserError: for a size that its CLIP can't read.
    """
    before = reader.image_size
    if size is None or size == before:
        return
    clip = read_at(reader.config.clip, reader.clip_model, size)
    reader.config = dataclasses.replace(reader.config, clip=clip)
    say(f"pictures of {size[0]} x {size[1]} pixels instead of {before[0]} x {before[1]}: positions are resized")


def build_reader(config: TeacherConfig) -> Clip4Str:
    """Make a reader of a CLIP; its decoders start from nothing."""
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
