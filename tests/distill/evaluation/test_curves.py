from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.evaluation.curves import gradient_shares, learning_curve, loss_terms, read_metrics, thin

ROWS = [
    {"step": 50, "group": "train", "loss": 3.0, "ctc": 2.0, "bridge": 1.0, "learning_rate": 0.1, "seconds": 10.0},
    {"step": 50, "group": "gradient_share", "ctc": 0.75, "bridge": 0.25},
    {"step": 75, "group": "validation", "accuracy": 40.0, "one_minus_ned": 70.0, "words": 7.0},
    {"step": 100, "group": "train", "loss": 1.0, "ctc": 1.0, "bridge": 0.0, "learning_rate": 0.1, "seconds": 20.0},
    {"step": 100, "group": "validation", "accuracy": 50.0, "one_minus_ned": None, "words": 7.0},
]


def test_a_validation_has_the_time_of_the_steps_around_it(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 150, "gro', encoding="utf-8")
    rows = read_metrics(tmp_path)
    assert rows == ROWS, "a line that a kill has cut off is left out"
    assert learning_curve(rows) == [
        {"step": 75, "seconds": 15.0, "accuracy": 40.0, "one_minus_ned": 70.0},
        {"step": 100, "seconds": 20.0, "accuracy": 50.0},
    ]
    assert learning_curve(rows[2:3]) == [{"step": 75, "accuracy": 40.0, "one_minus_ned": 70.0}]
    assert read_metrics(tmp_path / "none") == []


def test_a_term_has_no_point_where_a_step_was_without_it() -> None:
    assert loss_terms(ROWS) == {"ctc": [(50, 2.0), (100, 1.0)], "bridge": [(50, 1.0)]}
    assert gradient_shares(ROWS) == {"ctc": [(50, 75.0)], "bridge": [(50, 25.0)]}


def test_long_runs_are_averaged_over_neighbours() -> None:
    points = [(step, float(step)) for step in range(1000)]
    thinned = thin(points, 100)
    assert len(thinned) == 100
    assert thinned[0] == (4.5, 4.5)
    assert sum(value for _, value in thinned) / 100 == pytest.approx(499.5)
    assert thin(points[:3], 100) == points[:3]
