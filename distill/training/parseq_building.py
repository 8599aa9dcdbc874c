"""Building the training of a PARSeq from its configuration."""

from __future__ import annotations

import dataclasses
from typing import Any

from distill.config import ParseqSection, TeacherConfig
from distill.training.permuted import ParseqTask
from distill.training.starting import Say, restart
from students.charset import Charset
from students.errors import UserError
from students.parseq import SIZES, Parseq, ParseqConfig
from students.permuted import PermutationOptions


def build_parseq(config: TeacherConfig, say: Say = lambda _: None) -> ParseqTask:
    """Build the reader that `config` describes, or load the one to start from, and its task.

    Args:
        config: the configuration.
        say: told what `remap` made of a loaded one.

    Raises:
        UserError: for an alphabet, folder or size that doesn't serve.
    """
    section, permutations = config.parseq, config.permutations
    if config.init is None:
        reader = Parseq(parseq_config(section))
    else:
        reader = Parseq.from_pretrained(config.init)
        check_pictures(reader, section)
        if config.remap:
            reader = restart(reader, config.init, section.charset, section.max_length, config.seed, say)
    return ParseqTask(
        reader.train(),
        PermutationOptions(permutations.count, permutations.forward, permutations.mirrored),
        config.seed,
        section.spare_embeddings,
    )


def check_pictures(reader: Parseq, section: ParseqSection) -> None:
    """Refuse pictures or patches of another size than the reader's; raises `UserError`."""
    for name in ("image_size", "patch"):
        own, asked = getattr(reader.config, name), getattr(section, name)
        if asked is not None and tuple(asked) != own:
            raise UserError(f"parseq.{name}={asked}: the reader of init has {list(own)}; leave parseq.{name} out")


def parseq_config(section: ParseqSection) -> ParseqConfig:
    """Give a published size with what is changed about it; raises `UserError` for sizes that can't be had."""
    published = SIZES[section.size](Charset.load(section.charset), section.max_length)
    changed: dict[str, Any] = {"decoding": section.decoding, "refine_iters": section.refine_iters}
    for name in ("width", "depth", "decoder_depth", "dropout"):
        if (value := getattr(section, name)) is not None:
            changed[name] = value
    for name in ("image_size", "patch"):
        if (sides := getattr(section, name)) is not None:
            if len(sides) != 2:
                raise UserError(f"parseq.{name}={sides}: give height and width, such as [32, 128]")
            changed[name] = tuple(sides)
    if section.width is not None:
        if section.width < 64 or section.width % 64:
            raise UserError(f"parseq.width={section.width}: give a multiple of 64")
        changed |= {"heads": section.width // 64, "decoder_heads": section.width // 32}
    return dataclasses.replace(published, **changed)
