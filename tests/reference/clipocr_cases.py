"""CLIP-OCR's cases: the converted task of a checkpoint, its published names, and one step of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.conversion.clipocr import CLIP_FOLDER, GUIDANCE, stored_name
from distill.data.batch import Batch
from distill.data.columns import COLUMNS
from distill.schema import Config
from distill.training.building import build_task
from distill.training.distillation import DistillationTask
from distill.training.sections import StudentSection, TeacherSection
from losses.heads import published_name
from students.decoding import decode_probabilities
from students.pictures import normalize
from students.student import Student
from teachers.clip import ClipTeacher
from tests.reference.cases import Case, Converted, close_gradient, near

TERMS = {
    "word": "bridge", "text0": "linguistic1", "text1": "linguistic2", "text2": "linguistic3",
    "vis0": "visual1", "vis1": "visual2", "vis2": "visual3",
}  # fmt: skip
"""Our name of each published call of the consistency loss."""
CERTAIN = 1e-3
"""Strings are compared where the two best tokens are this far apart at every position."""
ALPHABET = "alphabet.txt"
"""File with the characters of a converted student, beside it."""
LOSSES = {"loss_char": "characters", "loss_word": "bridge", "loss_align": "linguistic", "loss_align_vis": "visual"}
"""How the names of the terms begin that a published loss is the sum of."""


def owner(case: Case) -> Case:
    """Find the case that describes the weights which `case` starts from."""
    name = case.numbers.get("weights") or case.numbers.get("start_weights")
    stem = re.sub(r"_ddp\d+(_rank\d+)?$", "", case.name) if name is None else Path(name).stem
    return Case(case.beside(f"{stem}.json"))


def sources(case: Case) -> list[str]:
    """List where the teacher of a case's weights can come from: a CLIP `file`, the `checkpoint` itself, or both."""
    numbers = owner(case).numbers
    file = case.path.with_name(str(numbers.get("clip_file")))
    return ["file"] * file.is_file() + ["checkpoint"] * bool(numbers.get("ckpt_contains_clip_keys")) or ["checkpoint"]


def task_folder(case: Case, converted: Converted, source: str, weights: Path | None = None) -> Path:
    """Convert the weights that a case starts from, or others of its kind, with heads, teacher and alphabet."""
    origin = owner(case)
    clip = (
        case.beside(origin.numbers["clip_file"]) if source == "file" else None if weights is None else origin.weights()
    )
    options = ["--guidance"] if clip is None else ["--clip", str(clip)]
    folder = converted("clipocr", weights or origin.weights(), *options)
    charset = json.loads((folder / "config.json").read_text(encoding="utf-8"))["charset"]
    (folder / ALPHABET).write_text(charset, encoding="utf-8")
    return folder


def load_task(folder: Path) -> DistillationTask:
    """Build the task that goes on with a converted checkpoint, as a run does."""
    guidance, student = folder / GUIDANCE, StudentSection(init=str(folder), charset=str(folder / ALPHABET))
    teacher = TeacherSection(name=str(guidance / CLIP_FOLDER), heads=str(guidance))
    return build_task(Config(student=student, teacher=teacher))


def teacher_of(task: DistillationTask) -> ClipTeacher:
    """Return the task's CLIP."""
    teacher = task.teachers[0]
    assert isinstance(teacher, ClipTeacher)
    return teacher


def batch_of(images: np.ndarray, labels: list[str]) -> Batch:
    """Make a batch of (N, H, W, 3) pixels."""
    count = len(labels)
    return Batch(torch.from_numpy(normalize(images)), labels, torch.full((count, COLUMNS), -1), torch.arange(count))


def published(task: DistillationTask) -> dict[str, nn.Parameter]:
    """Return everything trainable by its published name."""
    return {published_of(name): weight for name, weight in task.named_parameters()}


def published_of(name: str) -> str:
    """Return the published name of a weight of the task."""
    part, _, own = name.partition(".")
    return stored_name(own) if part == "student" else published_name(own.removeprefix("0."))


@dataclass(frozen=True)
class Step:
    """One step of the task, without the optimizer's."""

    terms: dict[str, float]
    loss: float
    gradients: dict[str, Tensor]
    """By published name."""


def step(task: DistillationTask, batch: Batch, model: nn.Module | None = None) -> Step:
    """Compute terms and gradients as the training loop does; `model` is the task as it was wrapped."""
    task.train()
    task.zero_grad()
    with torch.no_grad():
        inputs = task.prepare(batch, 0, 0.0)
    terms = (model or task)(inputs)
    loss = task.total(terms)
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in published(task).items() if weight.grad is not None}
    return Step({name: float(term.detach()) for name, term in terms.items()}, float(loss.detach()), gradients)


def same_losses(actual: Step, numbers: dict[str, Any]) -> None:
    """Compare the four losses and their total."""
    summed = {
        name: sum(value for term, value in actual.terms.items() if term.startswith(start))
        for name, start in LOSSES.items()
    }
    assert summed == near({name: numbers[name] for name in LOSSES})
    assert actual.loss == near(numbers["loss"])


def same_calls(actual: Step, numbers: dict[str, Any]) -> None:
    """Compare the values of the calls of the consistency loss."""
    assert {name: actual.terms[ours] for name, ours in TERMS.items()} == near(numbers["lcl_values"])


def same_norms(gradients: dict[str, Tensor], expected: dict[str, float | None]) -> None:
    """Compare the gradient norm of every parameter; a frozen one has none.

    Where the true gradient is 0, as that of the bridge in a batch of one word, what is left is rounding: some float32
    digits of the norm of all gradients.
    """
    norms = {name: float(gradient.double().norm()) for name, gradient in gradients.items()}
    assert norms == near(
        {name: norm for name, norm in expected.items() if norm is not None}, 2e-4, 1e-6 + 1e-7 * total_norm(gradients)
    )


def same_gradients(gradients: dict[str, Tensor], case: Case, prefix: str = "grad__") -> int:
    """Compare the gradients that are stored in full, and count them."""
    names = [name for name in case.arrays if name.startswith(prefix)]
    for name in names:
        close_gradient(gradients[name.removeprefix(prefix)], case.tensor(name))
    return len(names)


def total_norm(gradients: dict[str, Tensor]) -> float:
    """Return the norm of all gradients together."""
    return float(torch.stack([gradient.double().norm() for gradient in gradients.values()]).norm())


def same_readings(student: Student, logits: Tensor, expected: dict[str, Any]) -> None:
    """Compare the number of steps, strings, confidences and token probabilities with the stored ones."""
    readings = decode_probabilities(student.charset, logits.softmax(dim=-1))
    assert logits.shape[1] == expected["steps"]
    if expected.get("min_top2_margin", 1) > CERTAIN:
        assert [reading.text for reading in readings] == expected["strings"]
    assert [reading.confidence for reading in readings] == near(expected["confidences"], 1e-4, 0)
    for reading, probabilities in zip(readings, expected.get("token_probs", ()), strict=False):
        assert list(reading.token_probs) == near(probabilities, 1e-4, 1e-6)
