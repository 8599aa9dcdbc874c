"""Curves of a run, read from its metrics.jsonl: accuracy by step and time, loss terms, gradient shares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

METRICS = "metrics.jsonl"
NOT_TERMS = ("loss", "gradient_norm", "learning_rate", "words_per_second", "seconds")
"""What is logged of a step beside its terms."""
Series = dict[str, list[tuple[float, float]]]
"""Points (step, value) by name."""


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read what a run has logged; empty without the file. A line that a kill has cut off is left out."""
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def learning_curve(metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """List the validations: `step`, `seconds` of training up to there, and the scores in per cent.

    Validations are logged without a time; it is that of the steps around them.
    """
    timed = [(row["step"], row["seconds"]) for row in metrics if row.get("group") == "train" and row.get("seconds")]
    curve = []
    for row in metrics:
        if row.get("group") != "validation":
            continue
        scores = {name: value for name, value in row.items() if name not in ("step", "group", "words")}
        at = {"step": row["step"]}
        if timed:
            at["seconds"] = round(float(np.interp(row["step"], [step for step, _ in timed], [s for _, s in timed])), 1)
        curve.append(at | {name: round(float(value), 4) for name, value in scores.items() if value is not None})
    return curve


def loss_terms(metrics: Sequence[Mapping[str, Any]], most: int = 120) -> Series:
    """Collect the loss terms of the logged steps, averaged over neighbours down to at most `most` points each.

    A term that a step was without, as an unguided step is without guidance, has no point there.
    """
    series: Series = {}
    for row in metrics:
        if row.get("group") == "train":
            for name, value in row.items():
                if name not in (*NOT_TERMS, "step", "group") and value:
                    series.setdefault(name, []).append((row["step"], float(value)))
    return {name: thin(points, most) for name, points in series.items()}


def gradient_shares(metrics: Sequence[Mapping[str, Any]]) -> Series:
    """Collect each term's share of the student's gradient, in per cent."""
    series: Series = {}
    for row in metrics:
        if row.get("group") == "gradient_share":
            for name, value in row.items():
                if name not in ("step", "group") and value is not None:
                    series.setdefault(name, []).append((row["step"], 100 * float(value)))
    return series


def thin(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Average neighbouring points until at most `most` are left."""
    if len(points) <= most:
        return list(points)
    groups = np.array_split(np.asarray(points), most)
    return [(float(group[:, 0].mean()), float(group[:, 1].mean())) for group in groups]
