"""The command render_words: the same words with any number of processes, and mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import lmdb
import numpy as np
import pytest

from distill.commands.render_words import main
from distill.data.rendering.render_set import RenderRequest, describe_renderer, rendering_warnings
from students.charset import CHARSETS


def test_command_writes_the_same_words_with_any_workers(tmp_path: Path) -> None:
    common = ["--words", "130", "--seed", "4", "--no-system-fonts", "--max-fonts", "6"]
    assert main([*common, "--out", str(tmp_path / "one"), "--workers", "1", "--sheet", str(tmp_path / "a.png")]) == 0
    assert main([*common, "--out", str(tmp_path / "two"), "--workers", "2"]) == 0
    first, second = _records(tmp_path / "one"), _records(tmp_path / "two")
    assert first == second
    assert first[b"num-samples"] == b"130"
    assert len(first) == 3 * 130 + 1
    image = cv2.imdecode(np.frombuffer(first[b"image-000000130"], np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert len(first[b"columns-000000001"]) == 32
    recipe = json.loads((tmp_path / "one" / "recipe.json").read_text())
    assert recipe["seed"] == 4
    assert recipe["split"] == "train"
    assert recipe["families"]
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_command_refuses_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").touch()
    assert main(["--out", str(tmp_path)]) == 2
    assert main([]) == 2
    assert main(["--out", str(tmp_path / "x"), "--words", "0"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 3
    assert "holds other things than an LMDB; it is not replaced" in lines[0]
    assert not (tmp_path / "x").exists()


def test_what_would_be_without_effect_or_lost_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "woff").mkdir()
    (tmp_path / "woff" / "a.woff2").touch()
    (tmp_path / "photo.png").write_text("a picture")
    sheet = ["--sheet", str(tmp_path / "new.png")]
    for arguments, text in (
        ([*sheet, "--fonts", str(tmp_path / "woff")], "holds no .ttf, .otf or .ttc file"),
        ([*sheet, "--fonts", str(tmp_path / "photo.png")], "is a file"),
        (["--sheet", str(tmp_path / "photo.png")], "photo.png exists; replace it with --overwrite"),
        ([*sheet, "--difficulty", "nan"], "--difficulty: nan won't do; give a number from 0 to 1"),
    ):
        assert main(["--words", "1", "--no-system-fonts", *arguments]) == 2
        assert text in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png", "woff"]


def test_no_label_is_longer_than_asked_for(tmp_path: Path) -> None:
    common = ["--words", "60", "--no-system-fonts", "--max-fonts", "4", "--workers", "1", "--max-length", "4"]
    for name, more in (("words", []), ("lines", ["--line-words", "1", "3"]), ("street", ["--style", "street"])):
        assert main([*common, *more, "--out", str(tmp_path / name)]) == 0
        labels = [data.decode() for key, data in _records(tmp_path / name).items() if key.startswith(b"label")]
        assert len(labels) == 60
        assert max(map(len, labels)) == 4


def _records(folder: Path) -> dict[bytes, bytes]:
    with lmdb.open(str(folder), readonly=True, lock=False) as environment, environment.begin() as transaction:
        return dict(transaction.cursor())


def test_a_sheet_does_not_lie_among_the_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "words"
    assert main(["--words", "1", "--out", str(out), "--sheet", str(out / "sheet.png")]) == 2
    assert "which holds the words alone; move it" in capsys.readouterr().err
    assert not out.exists()


def test_languages_that_the_alphabet_can_not_write_are_said() -> None:
    fonts = SimpleNamespace(fonts=[], families=[], dropped={}, undrawn=frozenset(), borrowed=frozenset())
    renderer = SimpleNamespace(words=SimpleNamespace(languages=("ru", "de")))
    for charset, said in (("94", True), ("94" + "абвгдежзийклмнопрстуфхцчшщъыьэюя", False)):
        request = RenderRequest(1, "train", charset=CHARSETS["94"] + charset[2:], languages=("ru", "de"))
        recipe = describe_renderer(request, renderer, fonts)  # type: ignore[arg-type]
        assert any("writes little of the words of ru," in line for line in rendering_warnings(recipe)) == said
