"""A CTC student that learns by all its terms at once: a CLIP's stages, characters off a CTC reader, two views."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distill.commands.distill import main
from losses.heads import TERMS

ARGUMENTS = [
    "student.decoding=ctc", "student.keep_aspect=true", "guidance.kd=1", "guidance.kd_head=both",
    "teacher=[{name: words-small}, {name: tiny-free, weight: 0.5}]",
    "losses={consistency: {weight: 0.2, until: 0.8}, column_kd: 0.5}", "train.steps=5", "train.checkpoint_every=3",
    "data.workers=0", "student.dropout=0.2", "eval.baseline=false",
]  # fmt: skip


def rows(run: Path) -> list[dict[str, Any]]:
    """What was logged of steps and validations, but what a clock says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {name: line[name] for name in line if name not in ("seconds", "words_per_second")}
        for line in lines if line["group"] != "gradient_share"
    ]  # fmt: skip


@pytest.fixture(scope="module")
def arguments(write_config: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["--config", str(write_config(tmp_path_factory.mktemp("terms"))), *ARGUMENTS]


def test_a_student_of_one_picture_size(write_config: Callable[[Path], Path], tmp_path: Path) -> None:
    changed = {
        "teacher": "teacher=[{name: words-small}, {name: tiny-free}]", "losses": "losses.consistency=0.2",
        "guidance.kd_head": "guidance.kd_head=auto", "train.steps": "train.steps=2",
    }  # fmt: skip
    arguments = [changed.get(one.partition("=")[0], one) for one in ARGUMENTS]
    arguments.remove("student.keep_aspect=true")
    assert main(["--config", str(write_config(tmp_path)), *arguments]) == 0
    logged = rows(tmp_path / "run")[0]
    assert {"ctc", "consistency", "tiny-free/kd_columns", "tiny-free/visual1", "words-small/bridge"} <= set(logged)


def test_columns_of_another_width_are_refused(
    write_config: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["student.decoding=ctc", "teacher.name=tiny-free", "losses.column_kd=1"]
    assert main(["--config", str(write_config(tmp_path)), *arguments]) == 2
    assert "only one of tiny-free and the student keeps the aspect" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_all_terms_and_resumed_is_unbroken(arguments: list[str]) -> None:
    run = Path(arguments[1]).parent / "run"
    assert main([*arguments]) == 0
    logged = rows(run)
    encoder = [name for name in TERMS if not name.startswith("linguistic")]
    expected = {"characters", "ctc", "columns", "consistency", *(f"words-small/{name}" for name in TERMS)}
    expected |= {f"tiny-free/{name}" for name in [*encoder, "kd", "kd_columns", "column_kd"]}
    assert expected <= set(logged[0])
    assert all(logged[0][name] > 0 for name in expected)
    assert "consistency" not in logged[4], "off after a share of 0.8"
    exported = load_file(run / "student" / "model.safetensors")
    (run / "checkpoints" / "step-00000005" / "complete.json").unlink()
    assert main([*arguments, "--resume", "auto"]) == 0
    assert rows(run) == logged
    again = load_file(run / "student" / "model.safetensors")
    assert all(torch.equal(weight, again[name]) for name, weight in exported.items())
