"""CLIP4STR's reference cases: the reader of a case, and the published settings in our words."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from distill.conversion.checkpoints import read_checkpoint
from distill.conversion.clip4str import convert, stored_name
from distill.conversion.layout import ConversionOptions
from distill.training.clip4str import Clip4StrTask
from distill.training.permuted import PermutedInputs
from distill.training.teacher_sections import Clip4StrSection
from students.permuted import PermutationOptions
from students.pictures import normalize
from teachers.clip4str import BranchLogits, Clip4Str
from tests.reference.cases import Case

TAG = re.compile(r"(?P<whole>batch|single(?P<row>\d+)|maxlen(?P<length>\d+))_refine(?P<count>\d+)")
"""How an inference is called: which pictures, how long, and how many refine_iters."""


def fresh_reader(case: Case, **settings: Any) -> Clip4Str:
    """Convert a case's checkpoint, as its settings say or with some of them changed."""
    checkpoint = read_checkpoint(case.weights())
    changed = dataclasses.replace(checkpoint, settings={**checkpoint.settings, **settings})
    converted = convert(changed, ConversionOptions())
    assert not any(converted.unused.values()), converted.unused
    assert not converted.assumed
    return converted.reader


@cache
def reader_of(case: Case) -> Clip4Str:
    """Return a case's reader, in eval mode; don't change it."""
    return fresh_reader(case)


def section_of(settings: Mapping[str, Any]) -> Clip4StrSection:
    """Return the configuration that published settings stand for."""
    return Clip4StrSection(
        cross_context="labels" if settings["cross_gt_context"] else "visual",
        cross_mask="cloze" if settings["cross_cloze_mask"] else "order",
        cross_weight=settings["cross_loss_w"],
        text_freeze=settings["text_freeze_nlayer"],
        image_freeze=settings["image_freeze_nlayer"],
        decoder_lr=settings["coef_lr"],
        decoder_decay=settings["coef_wd"],
    )


def images_of(case: Case) -> Tensor:
    """Return a case's pictures as every reader takes them."""
    return torch.from_numpy(normalize(case.arrays["images_uint8"]))


def trained_on(case: Case, reader: Clip4Str, settings: Mapping[str, Any]) -> tuple[Clip4StrTask, PermutedInputs]:
    """Return the task of a case, ready to train, and its one batch in the stored orders."""
    orders = PermutationOptions(settings["perm_num"], settings["perm_forward"], settings["perm_mirrored"])
    task = Clip4StrTask(reader, section_of(settings), orders).train()
    ids = reader.charset.encode(case.numbers["labels"])
    return task, PermutedInputs(images_of(case), ids, case.tensor("permutations"))


def gradient_norms(reader: Clip4Str) -> dict[str, float | None]:
    """Return the norm of every weight's gradient by its published name, None where there is none."""
    return {
        stored_name(name): None if weight.grad is None else float(weight.grad.double().norm())
        for name, weight in reader.named_parameters()
    }


@cache
def passes_of(case: Case, whole: str, count: int) -> list[BranchLogits]:
    """Read a case's pictures `whole` (see `TAG`) with `count` refine_iters, and give every pass."""
    match = TAG.fullmatch(f"{whole}_refine{count}")
    assert match is not None
    images = images_of(case)
    row, length = match["row"], match["length"]
    images = images if row is None else images[int(row) : int(row) + 1]
    with torch.no_grad():
        return list(reader_of(case).passes(images, None if length is None else int(length), count))


def margin(logits: Tensor) -> float:
    """Return the smallest distance of the best two probabilities at any position."""
    best = logits.softmax(dim=-1).topk(2).values
    return float((best[..., 0] - best[..., 1]).min())
