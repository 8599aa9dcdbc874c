"""Reference cases: what other programs computed, found by kind in the folder of reference numbers.

Tests are parametrized over what lies there while they are collected, and take every size, alphabet and count from
the files. Kinds of which the repository holds no numbers are skipped without the shared folder; a case that can't be
run fails.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("SYMDISTILL_SHARED") or ROOT.parent / "shared") / "reference"
"""All reference numbers; no part of the repository."""
REPOSITORY = Path(__file__).parent / "data"
"""Those that may be published and are small."""
FOLDER = SHARED if SHARED.is_dir() else REPOSITORY
"""Where the reference numbers lie: the shared folder, else the part that comes with the repository."""
Converted = Callable[..., Path]
"""What the fixture `converted` gives: `converted(layout, checkpoint, *options)` is the folder the command writes."""


def close(actual: Tensor, expected: Tensor, share: float = 1e-5, least: float = 2e-4) -> None:
    """Compare stages, logits or rows within `least`, or within a share of the largest entry if that is more."""
    largest = float(expected.detach().abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=max(least, share * largest))


def close_gradient(actual: Tensor, expected: Tensor) -> None:
    """Compare a gradient within 1e-4 of its largest entry and 1e-6."""
    largest = float(expected.detach().abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * largest + 1e-6)


def near(expected: Any, share: float = 2e-5, least: float = 2e-6) -> Any:
    """Wrap an expected loss, or a list or dictionary of losses, to compare with `==`."""
    return pytest.approx(expected, rel=share, abs=least)


@dataclass(frozen=True)
class Case:
    """One file of reference numbers and the files beside it."""

    path: Path
    """A `.json` or `.npz` file."""

    @property
    def name(self) -> str:
        """Its name without the ending."""
        return self.path.stem

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """What the JSON file of this name says; empty when there is none."""
        file = self.path.with_suffix(".json")
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the npz file of this name; empty when there is none."""
        file = self.path.with_suffix(".npz")
        if not file.is_file():
            return {}
        with np.load(file) as stored:
            return {name: stored[name] for name in stored.files}

    def tensor(self, name: str) -> Tensor:
        """Return one array as a tensor."""
        return torch.from_numpy(self.arrays[name])

    def beside(self, name: str) -> Path:
        """Return a file of the same folder; fails when it isn't there."""
        file = self.path.with_name(name)
        assert file.is_file(), f"{self.path.name} needs {name}, which doesn't lie beside it"
        return file

    def weights(self) -> Path:
        """Return the weights of the same name, `.ckpt` or `.pt`; fails when there are none."""
        return next(file for file in map(self.path.with_suffix, (".ckpt", ".pt")) if file.is_file())


def _json_with(family: str, *keys: str, without: tuple[str, ...] = ()) -> Callable[[Case], bool]:
    """Take JSON files of a family that have all `keys` and none of those `without`."""

    def serves(case: Case) -> bool:
        named = case.path.suffix == ".json" and case.name.split("_")[0].startswith(family)
        return named and set(keys) <= set(case.numbers) and not set(without) & set(case.numbers)

    return serves


def _arrays_named(start: str) -> Callable[[Case], bool]:
    return lambda case: case.path.suffix == ".npz" and case.name.startswith(start)


KINDS: dict[str, Callable[[Case], bool]] = {
    "clipocr step": _json_with("clipocr", "labels", "lcl_values", without=("rank",)),
    "clipocr edges": _json_with("clipocr", "cases"),
    "clipocr path": _json_with("clipocr", "per_step"),
    "clipocr processes": _json_with("clipocr", "rank"),
    "clipocr optimizer": _json_with("clipocr", "lr_rule"),
    "clipocr tokens": _json_with("clipocr", "single_character_ids"),
    "clip4str": _json_with("clip4str", "labels", "inference"),
    "clip4str path": _json_with("clip4str", "per_step"),
    "parseq": _json_with("parseq", "labels", "inference"),
    "parseq path": _json_with("parseq", "per_step"),
    "data": _json_with("data"),
    "lcl": _arrays_named("lcl"),
}
"""Which files are a case of which kind. A file may be of several."""


@cache
def stored() -> list[Case]:
    """List every file of numbers, by name."""
    return [Case(path) for path in sorted(FOLDER.glob("*")) if path.suffix in (".json", ".npz")]


def find(kind: str) -> list[Case]:
    """Find the cases of a kind, by name."""
    return [case for case in stored() if KINDS[kind](case)]


def cases(kind: str, split: Callable[[Case], Iterable[Any]] | None = None) -> list[Any]:
    """List the cases of a kind as parameters of a test, marked `reference`.

    Args:
        kind: one of `KINDS`.
        split: when given, what each case is split into; a parameter is `(case, part)` then.
    """
    if FOLDER != SHARED and not find(kind):
        reason = f"no {kind!r} numbers in the repository; set SYMDISTILL_SHARED to the folder that holds reference/"
        nothing = (None,) if split is None else (None, None)
        return [pytest.param(*nothing, id="absent", marks=[pytest.mark.reference, pytest.mark.skip(reason)])]
    if split is None:
        return [pytest.param(case, id=case.name, marks=pytest.mark.reference) for case in find(kind)]
    return [
        pytest.param(case, part, id=f"{case.name}-{part}", marks=pytest.mark.reference)
        for case in find(kind) for part in split(case)
    ]  # fmt: skip
