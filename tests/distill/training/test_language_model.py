"""A student that is trained with a language model of its own labels brings them along, to its ONNX file too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.commands.distill import main
from distill.deployment.onnx_reader import OnnxReader
from teachers.registry import load_reader


def test_labels_become_the_exported_readers_words(
    write_config: Callable[[Path], Path], make_words: Callable[[Path, list[str]], Path], tmp_path: Path
) -> None:
    words = make_words(tmp_path / "own", ["ab12", "cd34", "cab"])
    config = write_config(tmp_path)
    given = [
        "--config", str(config), "train.steps=2", "data.workers=0", "student.decoding=ctc", "student.decoder=false",
        "teacher.name=null", "eval.onnx=true", "eval.teacher=false", f"student.language_model=european+{words}",
    ]  # fmt: skip
    assert main(given) == 0
    folder = tmp_path / "run" / "student"
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert stored["language_model"] == "european+own"
    reader, file = load_reader(folder), OnnxReader(folder / "student.onnx")
    for opened in (reader, file):
        assert opened.language_model is not None
        assert opened.language_model.own_text == "ab12\t1\ncd34\t1\ncab\t1\n"
        assert opened.language_model.prior("ba21") > opened.language_model.prior("b2a1")


def test_it_is_refused_before_the_first_step(
    write_config: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--config", str(write_config(tmp_path)), "student.language_model=european"]
    assert main(given) == 2
    assert "student.language_model=european: a language model is for reading by CTC" in capsys.readouterr().err
    assert main([*given[:2], "student.decoding=ctc", "student.language_model=no-such-words"]) == 2
    assert "no-such-words: can't be read as a language model" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_list_is_found_below_the_words_or_where_the_command_is_run(
    write_config: Callable[[Path], Path], make_words: Callable[[Path, list[str]], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make_words(tmp_path / "root" / "words", ["ab12", "cab"])
    (tmp_path / "labels.txt").write_text("ab12\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    given = [
        "--config", str(write_config(tmp_path)), "student.decoding=ctc", "student.decoder=false", "teacher.name=null",
        "data.train=[{path: words}]", "student.language_model=european+labels.txt", "eval.teacher=false", "--dry-run",
    ]  # fmt: skip
    assert main([*given, "data.root=root"]) == 0, capsys.readouterr().err
    assert main([*given, "data.root=nowhere"]) == 2
    told = "data.train: nowhere/words: no such folder to learn from; nowhere, which data.root names, is no folder"
    assert told in capsys.readouterr().err
