from __future__ import annotations

from typing import Any

import pytest
import torch

from losses.lcl import gather_others, lcl
from tests.losses.graded import graded, graded_in_groups

RAGGED = {2: (4, 7), 3: (5, 0, 3)}
"""Rows by rank in the cases made here; a process without rows takes part too."""


@pytest.mark.parametrize("norm", ["published", "standard"])
@pytest.mark.parametrize("block", [1, 5, 12])
def test_blocks_change_neither_value_nor_gradient(block: int, norm: str) -> None:
    student, teacher = torch.randn(13, 6, dtype=torch.float64), torch.randn(13, 6, dtype=torch.float64)
    student[3] = 0
    options = {"norm": norm}
    for blocked, whole in zip(
        graded(student, teacher, block=block, **options), graded(student, teacher, block=13, **options), strict=True
    ):
        torch.testing.assert_close(blocked, whole, rtol=1e-12, atol=1e-12)


def test_a_second_pass_through_the_same_graph_gives_the_same_gradient() -> None:
    student = torch.randn(5, 4, requires_grad=True)
    value = lcl(student, torch.randn(5, 4))
    first, second = (torch.autograd.grad(value, student, retain_graph=True)[0] for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize("norm", ["published", "standard"])
def test_gradient_is_that_of_the_value(norm: str) -> None:
    rows = [torch.randn(5, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda a, b: lcl(a, b, temperature=0.5, norm=norm), rows)


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


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Cases by world size and name, and what real process groups made of them."""
    generator = torch.Generator().manual_seed(7)
    cases: dict[int, dict[str, Any]] = {}
    for world, lengths in RAGGED.items():
        rows = {side: [torch.randn(length, 6, generator=generator) for length in lengths]
                for side in ("student", "teacher")}  # fmt: skip
        options = {"first_weight": 0.0, "gather_second_order": True}
        cases[world] = {"gathered": rows | {"options": options}, "local": rows | {"options": {"first_weight": 0.0}}}
        cases[world]["first"] = rows | {"options": {"second_weight": 0.0}}
    return {"cases": cases, "results": graded_in_groups(cases, tmp_path_factory.mktemp("processes"))}


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
    joined, gradient, _ = graded(torch.cat(case["student"]), torch.cat(case["teacher"]), second_weight=0.0)
    results = [by_rank["first"] for by_rank in processes["results"][world]]
    values = torch.stack([value for value, *_ in results])
    torch.testing.assert_close((values * lengths).sum() / lengths.sum(), joined)
    weighted = [length * result[1] for length, result in zip(lengths, results, strict=True)]
    torch.testing.assert_close(torch.cat(weighted) / lengths.sum(), gradient)
