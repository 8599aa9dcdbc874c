"""Building a distillation from its configuration: student, teacher, task."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from distill.config import Config, StudentSection
from distill.training.distillation import DistillationTask
from students.charset import Charset
from students.encoders import timm_model
from students.errors import UserError
from students.sizes import SIZES, StudentConfig
from students.student import Student
from teachers import load_teacher
from teachers.clip import ClipTeacher


def build_student(section: StudentSection, seed: int) -> Student:
    """Build a student from nothing, or load the one to start from.

    Raises:
        UserError: for a name, alphabet or depth that does not serve.
    """
    charset = Charset.load(section.charset)
    changed = {
        name: getattr(section, name) for name in ("encoder", "stem", "width", "depth", "decoder_depth", "dropout")
        if getattr(section, name) is not None
    }  # fmt: skip
    if section.init is not None:
        if changed:
            raise UserError(
                f"student.{next(iter(changed))} can't be set together with student.init, which brings its own"
            )
        return Student.from_pretrained(section.init, charset).train()
    config = resized(SIZES[section.size](charset, section.max_length), changed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the same start on every process, and for student and twin
        return Student(config)


def resized(config: StudentConfig, changed: dict[str, Any]) -> StudentConfig:
    """Change sizes of a student; what only goes with the old ones (heads, the column head) follows.

    Raises:
        UserError: for sizes that can't be had.
    """
    encoder, width = changed.get("encoder", config.encoder), changed.get("width", config.width)
    heads: dict[str, Any] = {"heads": config.heads, "decoder_heads": config.decoder_heads}
    if encoder not in ("vit", "conv"):
        if {"width", "depth"} & set(changed):
            raise UserError(
                f"student.width and student.depth are those of {encoder}; leave them out, or take encoder vit"
            )
        width = int(timm_model(encoder, config.image_size).num_features)  # type: ignore[arg-type]
    if "stem" in changed:
        if encoder != "conv":
            raise UserError(f"student.stem is of encoder conv, {encoder} has none; leave it out")
        changed = {**changed, "stem": tuple(changed["stem"])}
    for name in heads:
        if width % heads[name]:  # the most heads of at least 32 channels
            counts = (12, 8, 6, 4, 3, 2)
            heads[name] = next((count for count in counts if width % count == 0 and width // count >= 32), 1)
    return dataclasses.replace(config, **changed, **heads, column_head=config.column_head and encoder == "conv")


def build_teacher(config: Config) -> ClipTeacher | None:
    """Load the teacher, or None for a twin.

    Raises:
        UserError: when there is no such teacher.
    """
    section = config.teacher
    return None if section.name is None else load_teacher(section.name, section.weights, section.position)


def build_task(config: Config) -> DistillationTask:
    """Build student, teacher, heads and loss."""
    student, teacher = build_student(config.student, config.seed), build_teacher(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 1)
        return DistillationTask(student, teacher, config.guidance, config.aids, config.seed)
