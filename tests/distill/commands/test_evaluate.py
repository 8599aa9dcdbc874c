from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import torch

from distill.commands.evaluate import main
from distill.data.writing import LmdbWriter
from students.pretrained import SHIPPED
from students.student import Student
from teachers.small import SmallTeacher
from tests.distill.conftest import Learned
from tests.teachers.stripes import draw, save_recogniser


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory, learned: Learned) -> Path:
    """A student that has learned its words, one that has not, a teacher, and the words."""
    root = tmp_path_factory.mktemp("setup")
    learned.student.save_pretrained(root / "one")
    Student(learned.student.config).save_pretrained(root / "two")
    SmallTeacher().save(root / "clip", "card")
    with LmdbWriter(root / "words") as writer:
        for picture, word in zip(learned.pictures, learned.words, strict=True):
            stored = io.BytesIO()
            picture.save(stored, format="PNG")
            writer.add(stored.getvalue(), f" {word.upper()} ")
    return root


def test_compares_and_writes(setup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["--student", str(setup / "one"), "--baseline", str(setup / "two"), "--teacher", str(setup / "clip")]
    arguments += ["--data", str(setup / "words"), "--out", str(out), "--device", "cpu"]
    assert main(arguments) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["command"].startswith("symdistill evaluate --student")
    assert [(reader["name"], reader["role"]) for reader in report["readers"]] == [
        ("one", "student"), ("two", "baseline"), ("clip", "teacher"),
    ]  # fmt: skip
    assert all(reader["benchmarks"]["words"]["words"] == 10 for reader in report["readers"])
    assert report["readers"][0]["average_by_word"] == report["readers"][0]["average_by_set"] == 100.0
    (pair,) = report["pairs"]
    assert (pair["words"], pair["only_b"]) == (10, 0)
    assert pair["only_a"] == 10 - report["readers"][1]["benchmarks"]["words"]["hits"]
    assert sorted(file.name for file in out.iterdir()) == [
        "agreement-one-clip.png", "agreement-two-clip.png", "readings.jsonl", "report.html", "report.json",
        "report.md", "words-one.png", "words-two.png",
    ]  # fmt: skip
    output = capsys.readouterr().out
    assert "average by word" in output
    assert "Closed lexicon" in output
    before = (out / "report.json").read_bytes()
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (out / "report.json").read_bytes() == before
    assert main([*arguments, "--overwrite", "--limit", "2"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["readers"][0]["benchmarks"]["words"]["partial"] is True
    assert report["readers"][2]["benchmarks"]["words"]["lexicon"] == 10
    assert "quick look" in report["warnings"][0]


def test_teachers_that_read_are_scored_openly(
    setup: Path, tmp_path: Path, learned: Learned, capsys: pytest.CaptureFixture[str]
) -> None:
    learned.student.save_pretrained(tmp_path / "reader")
    out = tmp_path / "out"
    arguments = ["--student", str(setup / "two"), "--teacher", str(tmp_path / "reader"), "--teacher"]
    arguments += [str(setup / "clip"), "--data", str(setup / "words"), "--out", str(out), "--device", "cpu"]
    assert main(arguments) == 0
    report = json.loads((out / "report.json").read_text())
    assert [(reader["name"], reader["role"], reader["reading"]) for reader in report["readers"]] == [
        ("two", "student", "open"), ("reader", "teacher", "open"), ("clip", "teacher", "closed-lexicon"),
    ]  # fmt: skip
    assert report["readers"][1]["average_by_word"] == 100.0
    hits = report["readers"][0]["benchmarks"]["words"]["hits"]
    (pair,) = report["pairs"]
    counts = {"words": 10, "both": hits, "only_a": 0, "only_b": 10 - hits, "neither": 0}
    assert {key: pair[key] for key in counts} == pair["benchmarks"]["words"] == counts
    assert (pair["a"], pair["b"]) == ("two", "reader")
    assert [(pair["a"], pair["b"]) for pair in report["unlike_pairs"]] == [("two", "clip")]
    assert {"agreement-two-reader.png", "agreement-two-clip.png"} <= {file.name for file in out.iterdir()}
    opened, closed = capsys.readouterr().out.split("Closed lexicon")
    assert "(teacher)" in opened
    assert "Student against teacher: words by who read them" in closed
    (tmp_path / "words.txt").write_text("\n".join([*learned.words, "other"]))
    lexicon = ["--lexicon", str(tmp_path / "words.txt")]
    asked = [*arguments, *lexicon, "--closed-lexicon", "--overwrite"]
    assert main(asked) == 0
    report = json.loads((out / "report.json").read_text())
    closed = [reader for reader in report["readers"] if reader["reading"] == "closed-lexicon"]
    assert [reader["name"] for reader in closed] == ["clip", "two + lexicon", "reader + lexicon"]
    assert all(reader["benchmarks"]["words"]["lexicon"] == 11 for reader in closed)
    assert closed[2]["average_by_word"] == 100.0
    assert "unlike_pairs" not in report
    assert ["clip", "two + lexicon"] in [[pair["a"], pair["b"]] for pair in report["pairs"]]


def test_peers_stand_in_the_same_tables(
    setup: Path, tmp_path: Path, learned: Learned, capsys: pytest.CaptureFixture[str]
) -> None:
    with LmdbWriter(tmp_path / "words") as writer:
        shades = save_recogniser(tmp_path / "rec.onnx", "abc", metadata={"character": "a\nb\nc"})
        for word in ("aab", "cab", "b"):
            stored = io.BytesIO()
            draw(shades, ["abc".index(char) + 1 for char in word]).save(stored, format="PNG")
            writer.add(stored.getvalue(), word)
    arguments = ["--student", str(setup / "two"), "--peer", str(tmp_path / "rec.onnx"), "--closed-lexicon"]
    arguments += ["--data", str(tmp_path / "words"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(arguments) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    names = [(reader["name"], reader["role"]) for reader in report["readers"]]
    assert names == [("two", "student"), ("rec", "peer"), ("two + lexicon", "student"), ("rec + lexicon", "peer")]
    assert [report["readers"][number]["average_by_word"] for number in (1, 3)] == [100.0, 100.0]
    assert ("two", "rec", 3) in [(pair["a"], pair["b"], pair["words"]) for pair in report["pairs"]]
    assert any("rec can't write 33 of the 36 characters" in line for line in report["warnings"])
    assert "(peer)" in capsys.readouterr().out
    assert main([*arguments[:2], "--peer", str(tmp_path / "none.onnx"), *arguments[4:], "--overwrite"]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_lexicon_needs_somebody_who_chooses(setup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words.txt").write_text("word\n")
    arguments = ["--student", str(setup / "one"), "--teacher", str(setup / "two"), "--data", str(setup / "words")]
    assert main([*arguments, "--lexicon", str(tmp_path / "words.txt")]) == 2
    assert "add --closed-lexicon" in capsys.readouterr().err


def test_an_alphabet_of_ones_own(setup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "digits.txt").write_text("0123456789\n", encoding="utf-8")
    arguments = ["--student", str(setup / "one"), "--data", str(setup / "words")]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--charset", str(tmp_path / "digits.txt")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    scored = report["readers"][0]["benchmarks"]["words"]
    assert (scored["words"], scored["hits"]) == (10, 10), "letters are dropped from labels and from what is read"
    capsys.readouterr()
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    assert main([*arguments, "--charset", str(tmp_path / "empty.txt")]) == 2
    assert "the alphabet is empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--limit", "0"], "--limit: 0 won't do; give a whole number, 1 or more"),
        (["--lexicon", "words.txt"], "--lexicon is for --teacher"),
        (["--lexicon", "words.txt", "--teacher", "tiny"], "words.txt: No such file"),
        (["--charset", "none.txt"], "no alphabet 'none.txt'"),
        (["--doctor"], "--doctor needs a teacher"),
        (["--doctor", "--teacher", "words-small"], "leave --student out"),
        (["--student", "tiny", "--student", str(SHIPPED / "tiny")], "is given twice"),
        (["--student", "nobody"], "unknown teacher or reader 'nobody'"),
        (["--teacher", "nobody"], "unknown teacher or reader 'nobody'"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--data", "."], "holds no test set"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    setup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    changed: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    arguments = ["--student", str(setup / "one"), "--data", str(setup / "words"), "--out", "out", *changed]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not printed.out
    assert list(tmp_path.iterdir()) == []


def test_readers_of_one_name(setup: Path, tmp_path: Path, learned: Learned, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = tmp_path / "one"
    learned.student.save_pretrained(baseline)
    arguments = ["--student", str(setup / "one"), "--student", str(baseline), "--data", str(setup / "words")]
    out = tmp_path / "out"
    assert main([*arguments, "--limit", "1", "--out", str(out)]) == 0
    named = [reader["name"] for reader in json.loads((out / "report.json").read_text())["readers"]]
    assert named == [str(setup / "one"), str(baseline)], "readers of one name go by what was typed"
    assert main([*arguments, "--student", str(baseline)]) == 2
    assert "is given twice" in capsys.readouterr().err


def test_what_the_alphabet_cannot_write_is_in_table_and_report(
    setup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--student", str(setup / "one"), "--data", str(setup / "words"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--charset", "94"]) == 0
    assert "can't write 80 of the 94 characters" in " ".join(capsys.readouterr().out.split())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "can't write 80 of the 94 characters" in report["warnings"][0]
    assert report["readers"][0]["benchmarks"]["words"]["unreadable"] == 8, "all but 7 and 5566778899 hold capitals here"


def test_a_terminal_of_few_characters_ends_nothing(setup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table's dash ended it in a traceback, after all had been read."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["--student", str(setup / "one"), "--data", str(setup / "words"), "--limit", "2"]) == 0
    stream.flush()
    assert b"word accuracy" in stream.buffer.getvalue().lower()  # type: ignore[attr-defined]


def test_diverged_weights_are_refused(setup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = Student.from_pretrained(setup / "one")
    with torch.no_grad():
        student.head.weight[0, 0] = float("inf")
    student.save_pretrained(tmp_path / "diverged")
    assert main(["--student", str(tmp_path / "diverged"), "--data", str(setup / "words")]) == 2
    printed = capsys.readouterr()
    assert "head.weight has values that are NaN or infinite" in printed.err
    assert printed.out == ""
