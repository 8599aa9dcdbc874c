from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from losses.lcl import gather_others, lcl

RAGGED = {2: (4, 7), 3: (5, 0, 3)}
"""Rows by rank in the cases made here; a process without rows takes part too."""


def load(file: Path) -> dict[str, Tensor]:
    with np.load(file) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays if arrays[name].dtype.kind == "f"}


def assert_near(actual: Tensor, expected: Tensor) -> None:
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * largest + 1e-6)


def graded(student: Tensor, teacher: Tensor, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The value and its gradients on both sides."""
    student, teacher = student.clone().requires_grad_(), teacher.clone().requires_grad_()
    value = lcl(student, teacher, **options)
    return value.detach(), *torch.autograd.grad(value, (student, teacher))


@pytest.mark.reference
@pytest.mark.parametrize("case", [*(f"single{i}" for i in range(11)), "zero_student"])
def test_values_and_gradients_are_the_published_ones(reference: Path, case: str) -> None:
    stored = load(reference / "lcl_single.npz")
    value, to_student, to_teacher = graded(stored[f"{case}_student"], stored[f"{case}_teacher"])
    torch.testing.assert_close(value, stored[f"{case}_value"], rtol=2e-5, atol=2e-6)
    assert_near(to_student, stored[f"{case}_grad_student"])
    assert_near(to_teacher, stored[f"{case}_grad_teacher"])
    assert torch.isfinite(to_student).all()


@pytest.mark.reference
@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("cons1_l1_0", {"first_weight": 1.0, "second_weight": 0.0}),
        ("cons0_l1_1", {"first_weight": 0.0, "second_weight": 1.0}),
        ("tau1", {"temperature": 1.0}),
    ],
)
def test_weights_and_temperature_are_the_published_ones(reference: Path, case: str, options: dict[str, float]) -> None:
    stored = load(reference / "lcl_single.npz")
    value = lcl(stored["hyper_student"], stored["hyper_teacher"], **options)
    torch.testing.assert_close(value, stored[f"hyper_{case}_value"], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("normalization", ["published", "clamped"])
@pytest.mark.parametrize("block", [1, 5, 12])
def test_blocks_change_neither_value_nor_gradient(block: int, normalization: str) -> None:
    student, teacher = torch.randn(13, 6, dtype=torch.float64), torch.randn(13, 6, dtype=torch.float64)
    student[3] = 0
    options = {"normalization": normalization}
    for made, whole in zip(
        graded(student, teacher, block=block, **options), graded(student, teacher, block=13, **options), strict=True
    ):
        torch.testing.assert_close(made, whole, rtol=1e-12, atol=1e-12)


def test_a_second_pass_through_the_same_graph_gives_the_same_gradient() -> None:
    student = torch.randn(5, 4, requires_grad=True)
    value = lcl(student, torch.randn(5, 4))
    first, second = (torch.autograd.grad(value, student, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("normalization", ["published", "clamped"])
def test_gradient_is_that_of_the_value(normalization: str) -> None:
    rows = [torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda a, b: lcl(a, b, temperature=0.5, normalization=normalization), rows)


def test_order_of_rows_and_their_norms_change_nothing() -> None:
    student, teacher, order = torch.randn(9, 6), torch.randn(9, 6), torch.randperm(9)
    value = lcl(student, teacher)
    torch.testing.assert_close(lcl(student[order], teacher[order]), value)
    torch.testing.assert_close(lcl(3 * student, 0.2 * teacher), value)


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = torch.randn(8, 16).bfloat16(), torch.randn(8, 16).bfloat16()
    expected = lcl(student.float(), teacher.float())
    assert lcl(student, teacher).dtype == torch.float32
    torch.testing.assert_close(lcl(student, teacher), expected, rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(lcl(student.float(), teacher.float()), expected, rtol=0, atol=0)


def test_many_rows_keep_their_precision() -> None:
    student, teacher = torch.randn(1500, 16), torch.randn(1500, 16)
    torch.testing.assert_close(
        lcl(student, teacher).double(), lcl(student.double(), teacher.double()), rtol=1e-5, atol=0
    )


def test_no_rows_cost_nothing() -> None:
    empty = torch.zeros(0, 8, requires_grad=True)
    value = lcl(empty, torch.zeros(0, 8))
    value.backward()
    assert value == 0


def test_sides_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(2, 4\)"):
        lcl(torch.randn(3, 4), torch.randn(2, 4))


def test_one_process_has_no_others() -> None:
    assert gather_others(torch.randn(3, 2)) == []


def work(rank: int, folder: Path) -> None:
    """One of three processes: three of them in one group, then two in another."""
    torch.set_num_threads(1)
    for world in (3, 2):
        if rank >= world:
            return
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world)
        cases = torch.load(folder / f"cases{world}.pt", weights_only=True)
        results = {
            name: graded(case["student"][rank], case["teacher"][rank], **case["options"])
            for name, case in cases.items()
        }
        torch.save(results, folder / f"results{world}-{rank}.pt")
        dist.destroy_process_group()


def reference_cases(file: Path, world: int) -> dict[str, Any]:
    """Stored cases as `{name: {"student": [by rank], "teacher": [by rank], "options": {}}}`."""
    stored = load(file)
    names = sorted({name.split("_")[1] for name in stored})
    return {
        name: {side: [stored[f"world{world}_{name}_rank{rank}_{side}"] for rank in range(world)]
               for side in ("student", "teacher")} | {"options": {}}
        for name in names
    }  # fmt: skip


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Cases by world size and name, and what real process groups made of them."""
    folder = tmp_path_factory.mktemp("processes")
    generator = torch.Generator().manual_seed(7)
    cases: dict[int, dict[str, Any]] = {}
    for world, lengths in RAGGED.items():
        rows = {side: [torch.randn(length, 6, generator=generator) for length in lengths]
                for side in ("student", "teacher")}  # fmt: skip
        options = {"first_weight": 0.0, "second_order": "gathered"}
        cases[world] = {"gathered": rows | {"options": options}, "local": rows | {"options": {"first_weight": 0.0}}}
        cases[world]["first"] = rows | {"options": {"second_weight": 0.0}}
        try:
            stored = request.getfixturevalue("reference")
            cases[world] |= reference_cases(stored / f"lcl_world{world}.npz", world)
        except pytest.skip.Exception:
            pass  # the cases made here need nothing stored
        torch.save(cases[world], folder / f"cases{world}.pt")
    # Three spawned processes would each import torch and all packages; a fork server does it once.
    mp.get_context("forkserver").set_forkserver_preload(["losses.lcl"])
    mp.start_processes(work, (folder,), nprocs=3, start_method="forkserver")
    return {
        "cases": cases,
        "results": {world: [torch.load(folder / f"results{world}-{rank}.pt", weights_only=True)
                            for rank in range(world)] for world in RAGGED},
    }  # fmt: skip


@pytest.mark.reference
@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_agree_with_the_published_program(
    reference: Path, processes: dict[str, Any], world: int
) -> None:
    stored = load(reference / f"lcl_world{world}.npz")
    names = [name for name in processes["cases"][world] if name.startswith("case")]
    assert names
    for name in names:
        for rank in range(world):
            value, to_student, to_teacher = processes["results"][world][rank][name]
            prefix = f"world{world}_{name}_rank{rank}"
            torch.testing.assert_close(value, stored[f"{prefix}_value"], rtol=2e-5, atol=2e-6)
            assert_near(to_student, stored[f"{prefix}_grad_student"])
            assert_near(to_teacher, stored[f"{prefix}_grad_teacher"])


@pytest.mark.parametrize("world", [2, 3])
def test_gathered_second_order_is_that_of_the_joined_batch(processes: dict[str, Any], world: int) -> None:
    case = processes["cases"][world]["gathered"]
    joined, *gradients = graded(torch.cat(case["student"]), torch.cat(case["teacher"]), first_weight=0.0)
    results = [by_rank["gathered"] for by_rank in processes["results"][world]]
    for value, *_ in results:
        torch.testing.assert_close(value, joined)
    for side, expected in enumerate(gradients):
        # DDP takes the mean over processes; a row has its gradient on one of them.
        mean = torch.cat([result[1 + side] for result in results]) / world
        torch.testing.assert_close(mean, expected)


@pytest.mark.parametrize("world", [2, 3])
def test_local_second_order_sees_own_rows_only(processes: dict[str, Any], world: int) -> None:
    case = processes["cases"][world]["local"]
    for rank, by_rank in enumerate(processes["results"][world]):
        alone, *_ = graded(case["student"][rank], case["teacher"][rank], first_weight=0.0)
        torch.testing.assert_close(by_rank["local"][0], alone)


@pytest.mark.parametrize("world", [2, 3])
def test_first_order_is_that_of_the_joined_batch_for_own_rows(processes: dict[str, Any], world: int) -> None:
    case, lengths = processes["cases"][world]["first"], torch.tensor(RAGGED[world], dtype=torch.float)
    joined, *_ = graded(torch.cat(case["student"]), torch.cat(case["teacher"]), second_weight=0.0)
    values = torch.stack([by_rank["first"][0] for by_rank in processes["results"][world]])
    torch.testing.assert_close((values * lengths).sum() / lengths.sum(), joined)
