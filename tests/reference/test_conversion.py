"""Every published checkpoint that lies there is converted by the command and reads pictures like any other reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distill.commands.read import main as read
from distill.evaluation.benchmarks import open_benchmarks
from students.charset import Charset
from tests.distill.conftest import draw
from tests.reference.cases import SHARED, Case, Converted, cases

LAYOUTS = {"clipocr step": "clipocr", "clipocr path": "clipocr", "clip4str": "clip4str", "parseq": "parseq"}
"""Kinds of cases that have weights, and what the command calls their layout."""
WORDS = 4


def published() -> list[Any]:
    """List the cases of all layouts."""
    return [parameter for kind in LAYOUTS for parameter in cases(kind, lambda case, kind=kind: [LAYOUTS[kind]])]


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some words: real ones where they are at hand, else drawn ones."""
    folder = tmp_path_factory.mktemp("crops")
    real = SHARED.parent / "data"
    benchmark = open_benchmarks(real, "CUTE80", Charset.load("36"), WORDS)[0] if real.is_dir() else None
    for number in range(WORDS):
        picture = draw(f"word{number}") if benchmark is None else benchmark.load(number)
        picture.save(folder / f"{number}.png")
    return folder


def options(case: Case, folder: Path) -> list[str]:
    """Name what a bare file doesn't hold: alphabet, heads and picture size, as a user with its description would."""
    model = case.numbers["model"]
    if case.weights().suffix == ".ckpt":
        return []
    (folder / "alphabet.txt").write_text(model["charset_train"], encoding="utf-8")
    height, width = model["img_size"]
    return ["--charset", str(folder / "alphabet.txt"), "--heads", f"{model['enc_num_heads']},{model['dec_num_heads']}",
            "--image", f"{height},{width}"]  # fmt: skip


@pytest.mark.parametrize(("case", "layout"), published())
def test_a_converted_checkpoint_reads_real_crops(
    case: Case, layout: str, converted: Converted, crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = converted(layout, case.weights(), *options(case, tmp_path))
    capsys.readouterr()
    assert read(["--student", str(folder), "--json", str(crops)]) == 0
    output = json.loads(capsys.readouterr().out)
    characters = set(case.numbers["model"]["charset_train"])
    assert len(output) == WORDS
    assert all(set(word["word"]) <= characters and 0 <= word["confidence"] <= 1 for word in output)
