"""Training runs compared: what they logged, and with which weights they ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

CLOCK = ("seconds", "words_per_second")


def rows(run: Path) -> list[dict[str, Any]]:
    """All that was logged but what a clock says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(line[name] > 0 for line in lines if line["group"] == "train" for name in CLOCK)
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in lines]


def trained_steps(run: Path) -> list[int]:
    """The steps that were logged."""
    return [row["step"] for row in rows(run) if row["group"] == "train"]


def checkpoints(run: Path) -> list[str]:
    """The names of all checkpoints, earliest first."""
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def same_end(one: Path, other: Path) -> None:
    """Two runs logged the same numbers and ended with the same weights to the bit: trained, averaged, exported."""
    assert rows(one) == rows(other)
    assert checkpoints(one)[-1] == checkpoints(other)[-1]
    last = Path("checkpoints", checkpoints(one)[-1])
    for name in (last / "model.safetensors", Path("student", "model.safetensors")):
        weights = [load_file(run / name) for run in (one, other)]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    states = [torch.load(run / last / "optimizer.bin", weights_only=True)["state"] for run in (one, other)]
    for number, state in states[0].items():
        assert all(torch.equal(value, states[1][number][key]) for key, value in state.items())
