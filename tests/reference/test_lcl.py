"""The linguistic consistency loss: values, gradients, weights and ragged process groups of the published program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from losses.lcl import lcl
from tests.losses.graded import graded, graded_in_groups
from tests.reference.cases import Case, cases, close_gradient

IN_GROUP = re.compile(r"(world(\d+)_.+)_rank(\d+)_student")
OPTIONS = {"cons": "first_weight", "l1": "second_weight", "tau": "temperature"}
"""How stored names say which option a value was computed with."""


def alone(case: Case) -> Iterator[str]:
    """Name the pairs of rows of one process."""
    for name in case.arrays:
        group = name.removesuffix("_student")
        if group != name and not IN_GROUP.fullmatch(name) and f"{group}_value" in case.arrays:
            yield group


def with_options(case: Case) -> Iterator[str]:
    """Name the values that were computed with other options than the published ones."""
    return (name for name in case.arrays if re.fullmatch(r"hyper_.+_value", name))


def worlds(case: Case) -> list[int]:
    """List the sizes of process groups."""
    return sorted({int(match[2]) for name in case.arrays if (match := IN_GROUP.fullmatch(name))})


def same(actual: tuple[Tensor, Tensor, Tensor], case: Case, group: str) -> None:
    """Compare value and gradients."""
    torch.testing.assert_close(actual[0], case.tensor(f"{group}_value"), rtol=2e-5, atol=2e-6)
    for gradient, side in zip(actual[1:], ("student", "teacher"), strict=True):
        assert torch.isfinite(gradient).all()
        close_gradient(gradient, case.tensor(f"{group}_grad_{side}"))


@pytest.mark.parametrize(("case", "group"), cases("lcl", alone))
def test_values_and_gradients(case: Case, group: str) -> None:
    same(graded(case.tensor(f"{group}_student"), case.tensor(f"{group}_teacher")), case, group)


@pytest.mark.parametrize(("case", "name"), cases("lcl", with_options))
def test_weights_and_temperature(case: Case, name: str) -> None:
    expected = re.findall(r"([a-z]+1?)_?(\d+(?:\.\d+)?)", name.removeprefix("hyper_").removesuffix("_value"))
    options: dict[str, Any] = {OPTIONS[option]: float(value) for option, value in expected}
    value = lcl(case.tensor("hyper_student"), case.tensor("hyper_teacher"), **options)
    torch.testing.assert_close(value, case.tensor(name), rtol=2e-5, atol=2e-6)


@pytest.fixture(scope="module")
def in_groups(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Every stored case of several processes, computed in real groups: by file, size, rank and name."""
    computed: dict[str, Any] = {}

    def compute(case: Case) -> Any:
        if case.name not in computed:
            rows: dict[int, dict[str, Any]] = {world: {} for world in worlds(case)}
            for name in case.arrays:
                if match := IN_GROUP.fullmatch(name):
                    group, world = match[1], int(match[2])
                    rows[world][group] = {"options": {}} | {
                        side: [case.tensor(f"{group}_rank{rank}_{side}") for rank in range(world)]
                        for side in ("student", "teacher")
                    }
            computed[case.name] = graded_in_groups(rows, tmp_path_factory.mktemp(case.name))
        return computed[case.name]

    return compute


@pytest.mark.parametrize(("case", "world"), cases("lcl", worlds))
def test_several_processes(case: Case, world: int, in_groups: Any) -> None:
    for rank, results in enumerate(in_groups(case)[world]):
        assert results
        for group, actual in results.items():
            same(actual, case, f"{group}_rank{rank}")
