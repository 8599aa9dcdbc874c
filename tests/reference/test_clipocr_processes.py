"""CLIP-OCR in several processes: a step of every rank, before and after its gradients are averaged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel

from tests.gloo import run_groups
from tests.reference.cases import Case, Converted, cases, close, find
from tests.reference.clipocr_cases import (
    TERMS,
    Step,
    batch_of,
    load_task,
    same_calls,
    same_gradients,
    same_losses,
    same_norms,
    sources,
    step,
    task_folder,
    teacher_of,
)


def group_of(case: Case) -> str:
    """Name the group that a rank's file belongs to; the file of its arrays has that name."""
    return re.sub(r"_rank\d+$", "", case.name)


def arrays_of(case: Case) -> Case:
    """Return the file of the group's arrays."""
    return Case(case.path.with_name(f"{group_of(case)}.npz"))


def step_on_rank(rank: int, world: int, folder: Path) -> dict[str, Any]:
    """Compute one rank's step: the rows of its calls, and gradients before and after they are averaged."""
    case = Case(Path((folder / f"case{rank}").read_text(encoding="utf-8")))
    assert case.numbers["world_size"] == world
    task = load_task(Path((folder / "task").read_text(encoding="utf-8")))
    batch = batch_of(arrays_of(case).arrays[f"images_rank{rank}_uint8"], case.numbers["labels"])
    model = DistributedDataParallel(task)
    with model.no_sync():
        local = step(task, batch, model)
    averaged = step(task, batch, model)
    with torch.no_grad():
        stages = task.student.stages(batch.images, task.student.charset.encode(batch.labels))
        rows = task.branches[0].heads(stages, teacher_of(task)(batch.images, batch.labels))
    return {"local": vars(local), "averaged": averaged.gradients, "rows": rows,
            "tokens": teacher_of(task).tokens(batch.labels)}  # fmt: skip


@pytest.fixture(scope="module")
def groups(converted: Converted, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compute the steps of a group in real processes, once."""
    computed: dict[str, list[dict[str, Any]]] = {}

    def compute(case: Case, source: str) -> dict[str, Any]:
        name = group_of(case)
        if name not in computed:
            folder = tmp_path_factory.mktemp(name)
            (folder / "task").write_text(str(task_folder(case, converted, source)), encoding="utf-8")
            for other in find("clipocr processes"):
                if group_of(other) == name:
                    (folder / f"case{other.numbers['rank']}").write_text(str(other.path), encoding="utf-8")
            world = case.numbers["world_size"]
            computed[name] = run_groups(step_on_rank, [world], folder)[world]
        return computed[name][case.numbers["rank"]]

    return compute


by_rank = pytest.mark.parametrize(("case", "source"), cases("clipocr processes", lambda case: sources(case)[:1]))


@by_rank
def test_rows_and_losses_of_a_rank(case: Case, source: str, groups: Any) -> None:
    actual, stored, rank = groups(case, source), arrays_of(case), case.numbers["rank"]
    assert torch.equal(actual["tokens"], stored.tensor(f"text_ids_rank{rank}").long())
    for expected, ours in TERMS.items():
        for rows, side in zip(actual["rows"][ours], ("student", "teacher"), strict=True):
            assert list(rows.shape) == case.numbers["lcl_rows"][expected]
            close(rows, stored.tensor(f"lcl_{expected}_{side}_rank{rank}"))
    local = Step(**actual["local"])
    same_calls(local, case.numbers)
    same_losses(local, case.numbers)


@by_rank
def test_gradients_of_a_rank_and_of_all(case: Case, source: str, groups: Any) -> None:
    actual, stored = groups(case, source), arrays_of(case)
    local = actual["local"]["gradients"]
    same_norms(local, case.numbers["grad_norm_local_before_averaging"])
    same_norms(actual["averaged"], case.numbers["grad_norm_averaged"])
    assert same_gradients(local, stored, f"grad_local_rank{case.numbers['rank']}__")
    assert same_gradients(actual["averaged"], stored, "grad_averaged__")


@by_rank
def test_the_same_batch_alone(case: Case, source: str, converted: Converted) -> None:
    expected = case.numbers["same_batch_without_process_group"]
    task = load_task(task_folder(case, converted, source))
    images = arrays_of(case).arrays[f"images_rank{case.numbers['rank']}_uint8"]
    done = step(task, batch_of(images, case.numbers["labels"]))
    same_calls(done, expected)
    assert done.loss == pytest.approx(expected["loss"], rel=2e-5)
