from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from distill.commands.evaluate import main
from distill.data.writing import LmdbWriter
from students.student import Student
from teachers.small import SmallTeacher
from tests.distill.conftest import Learned


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, learned: Learned) -> Path:
    """A student that has learned its words, one that has not, a teacher, and the words."""
    root = tmp_path_factory.mktemp("place")
    learned.student.save_pretrained(root / "one")
    Student(learned.student.config).save_pretrained(root / "two")
    SmallTeacher().save(root / "clip", "card")
    with LmdbWriter(root / "words") as writer:
        for picture, word in zip(learned.pictures, learned.words, strict=True):
            stored = io.BytesIO()
            picture.save(stored, format="PNG")
            writer.add(stored.getvalue(), f" {word.upper()} ")
    return root


def test_compares_and_writes(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["--student", str(place / "one"), "--twin", str(place / "two"), "--teacher", str(place / "clip")]
    arguments += ["--data", str(place / "words"), "--out", str(out), "--device", "cpu"]
    assert main(arguments) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["command"].startswith("symdistill evaluate --student")
    assert [(reader["name"], reader["role"]) for reader in report["readers"]] == [
        ("one", "student"), ("two", "twin"), ("clip", "teacher"),
    ]  # fmt: skip
    assert all(reader["benchmarks"]["words"]["words"] == 10 for reader in report["readers"])
    assert report["readers"][0]["average_by_word"] == report["readers"][0]["average_by_set"] == 100.0
    (pair,) = report["pairs"]
    assert (pair["words"], pair["only_b"]) == (10, 0)
    assert pair["only_a"] == 10 - report["readers"][1]["benchmarks"]["words"]["hits"]
    assert sorted(file.name for file in out.iterdir()) == ["report.json", "report.md", "words-one.png", "words-two.png"]
    shown = capsys.readouterr().out
    assert "average by word" in shown
    assert "Closed lexicon" in shown
    before = (out / "report.json").read_bytes()
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "report.json").read_bytes() == before
    assert main([*arguments, "--overwrite", "--limit", "2"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["readers"][0]["benchmarks"]["words"]["partial"] is True
    assert report["readers"][2]["benchmarks"]["words"]["lexicon"] == 10
    assert "quick look" in report["notes"][0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--limit", "0"], "--limit must be 1 or more"),
        (["--lexicon", "words.txt"], "--lexicon is for --teacher"),
        (["--student", "nobody"], "no student 'nobody'"),
        (["--teacher", "nobody"], "unknown teacher 'nobody'"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--data", "."], "holds no test set"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    changed: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    arguments = ["--student", str(place / "one"), "--data", str(place / "words"), "--out", "out", *changed]
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert len(told.err.splitlines()) == 1
    assert not told.out
    assert list(tmp_path.iterdir()) == []


def test_readers_of_one_name(place: Path, tmp_path: Path, learned: Learned, capsys: pytest.CaptureFixture[str]) -> None:
    twin = tmp_path / "one"
    learned.student.save_pretrained(twin)
    arguments = ["--student", str(place / "one"), "--student", str(twin), "--data", str(place / "words")]
    out = tmp_path / "out"
    assert main([*arguments, "--limit", "1", "--out", str(out)]) == 0
    named = [reader["name"] for reader in json.loads((out / "report.json").read_text())["readers"]]
    assert named == [str(place / "one"), str(twin)], "readers of one name go by what was typed"
    assert main([*arguments, "--student", str(twin)]) == 2
    assert "is given twice" in capsys.readouterr().err
