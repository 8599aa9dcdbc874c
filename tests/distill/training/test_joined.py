"""Two processes learn as one does from their joined batch, but for what docs/method.md, section 1.2 excepts.

The batches are ragged: words of all lengths, and so another longest one on each process. Both processes have as many
characters, since each mean is over a process's own rows and processes weigh the same however many they have.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from distill.data.batch import Batch
from distill.training.distillation import DistillationTask
from distill.training.sections import AuxSection, GuidanceSection
from losses.lcl import lcl
from students.charset import Charset
from students.student import Student, StudentConfig
from teachers import load_teacher
from tests.gloo import run_groups

WORDS, CHARACTERS, PARTS = 3, 14, 2
"""Words of a process's batch, characters of them together, and batches that are accumulated for a step."""
TEACHERS_SIDE = ("heads.0.norm_head.", "heads.0.norm_head_vis.")
"""Weights that teacher rows reach: those of other processes are gathered without gradient."""


def draw_batch(source: random.Random) -> Batch:
    """Random pictures of random words with a fixed number of characters in all."""
    cuts = sorted(source.sample(range(1, CHARACTERS), WORDS - 1))
    lengths = [end - start for start, end in zip([0, *cuts], [*cuts, CHARACTERS], strict=True)]
    labels = ["".join(source.choices("abcdefghij0123456789", k=length)) for length in lengths]
    noise = torch.Generator().manual_seed(source.getrandbits(32))
    images = torch.rand(WORDS, 3, 32, 128, generator=noise) * 2 - 1
    return Batch(images, labels, torch.randint(0, 37, (WORDS, 32), generator=noise), torch.arange(WORDS))


def join(batches: list[Batch]) -> Batch:
    """All words of several batches."""
    fields = [torch.cat([getattr(batch, name) for batch in batches]) for name in ("images", "columns", "indices")]
    return Batch(fields[0], [label for batch in batches for label in batch.labels], fields[1], fields[2])


@contextmanager
def alone() -> Iterator[None]:
    """Compute as without a process group."""
    with patch("losses.lcl.dist.is_initialized", lambda: False):
        yield


def gradients(task: DistillationTask) -> dict[str, Tensor]:
    """Take the gradients out of a task."""
    by_name = {name: weight.grad for name, weight in task.named_parameters() if weight.grad is not None}
    task.zero_grad()
    return by_name


def deviation(one: Tensor, other: Tensor) -> float:
    """The largest difference relative to the largest number."""
    return float((one - other).abs().max() / other.abs().max().clamp(min=1e-6))


def learn_on_rank(rank: int, world: int, folder: Path) -> dict[str, list[float]]:
    """Train on one rank, and compare each step with the same weights on the joined batch; gives the deviations."""
    steps, teacher = (folder / "task").read_text(encoding="utf-8").split("\n")
    torch.manual_seed(0)
    student = Student(
        StudentConfig(
            charset=Charset.load("36").characters, max_length=CHARACTERS, encoder="conv", stem=(8, 8, 16), width=32,
            depth=4, heads=2, mlp_ratio=2.0, decoder_depth=3, decoder_heads=2, decoder_mlp_ratio=2.0, dropout=0.0,
            column_head=True, taps="even",
        )
    )  # fmt: skip
    task = DistillationTask(
        student, load_teacher(teacher), GuidanceSection(include_padding=False, gather_second_order=True), AuxSection()
    )
    task.eval()  # a BatchNorm would take the statistics of a process's own words
    model = DistributedDataParallel(task)
    optimizer = torch.optim.SGD(task.parameters(), lr=0.05)
    source = random.Random(5)
    deviations: dict[str, list[float]] = {"loss": [], "gradient": [], "teacher's side": [], "first": [], "second": []}
    for _ in range(int(steps)):
        parts = [[draw_batch(source) for _ in range(world)] for _ in range(PARTS)]
        local, joined = torch.zeros(()), torch.zeros(())
        for number, batches in enumerate(parts):
            with nullcontext() if number == PARTS - 1 else model.no_sync():
                loss = task.total(model(task.prepare(batches[rank], 0, 0.0))) / PARTS
                loss.backward()
            local += loss.detach()
        averaged = gradients(task)
        with alone():
            for batches in parts:
                loss = task.total(task(task.prepare(join(batches), 0, 0.0))) / PARTS
                loss.backward()
                joined += loss.detach()
        whole = gradients(task)
        torch.distributed.all_reduce(local)
        deviations["loss"].append(deviation(local / world, joined))
        by_name = {name: deviation(averaged[name], whole[name]) for name in whole}
        deviations["gradient"].append(
            max(value for name, value in by_name.items() if not name.startswith(TEACHERS_SIDE))
        )
        deviations["teacher's side"].append(max(by_name[name] for name in by_name if name.startswith(TEACHERS_SIDE)))
        compare_published(task, parts[0], rank, deviations)
        for name, weight in task.named_parameters():
            weight.grad = averaged[name]
        optimizer.step()
        optimizer.zero_grad()
    return deviations


@torch.no_grad()
def compare_published(
    task: DistillationTask, batches: list[Batch], rank: int, deviations: dict[str, list[float]]
) -> None:
    """Compare both terms of the published form: the first with the joined batch, the second with the own one alone."""
    own, joined = task.prepare(batches[rank], 0, 0.0), task.prepare(join(batches), 0, 0.0)
    for name, options in (("first", {"second_weight": 0.0}), ("second", {"first_weight": 0.0})):

        def form(student: Tensor, teacher: Tensor, options: dict[str, Any] = options, **_: Any) -> Tensor:
            return lcl(student, teacher, **options)

        with patch("losses.symmetric.lcl", form):
            value = task.total(task(own))
            with alone():
                expected = task.total(task(joined if name == "first" else own))
        if name == "first":
            torch.distributed.all_reduce(value)
            value /= len(batches)
        deviations[name].append(deviation(value, expected))


@pytest.mark.parametrize("steps", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_two_processes_learn_as_one_from_the_joined_batch(steps: int, material: Path, tmp_path: Path) -> None:
    (tmp_path / "task").write_text(f"{steps}\n{material / 'teacher'}", encoding="utf-8")
    for deviations in run_groups(learn_on_rank, [2], tmp_path)[2]:
        assert len(deviations["loss"]) == steps
        assert max(deviations["loss"]) < 1e-5
        assert max(deviations["gradient"]) < 1e-3
        assert max(deviations["first"]) < 1e-5
        assert max(deviations["second"]) == 0
        assert min(deviations["teacher's side"]) > 1e-2, "rows that were gathered carry no gradient"
