from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from distill.evaluation.benchmarks import OverlapCheck, open_benchmarks
from distill.evaluation.compare import Comparison, compare
from distill.evaluation.lexicon import LexiconReader
from distill.evaluation.report import build_report, check_report_folder, write_report
from distill.evaluation.stored_reports import REPORT
from distill.evaluation.tables import print_report, to_markdown
from students.charset import Charset
from students.errors import UserError

from .conftest import FakeReader, FakeTeacher


@pytest.fixture
def comparison(tmp_path: Path, charset: Charset, make_set: Callable[[Path, Sequence[str]], Path]) -> Comparison:
    make_set(tmp_path / "test" / "long", ["one", "two", "three", "four"])
    make_set(tmp_path / "test" / "short", ["one"])
    students = [FakeReader("a|b", {0: "one", 1: "two"}), FakeReader("baseline", {0: "one"}, role="baseline")]
    teacher = LexiconReader(FakeTeacher({"one": 0, "two": 1, "three": 2, "four": 3}), charset)
    return compare([*students, teacher], open_benchmarks(tmp_path, "all", charset), charset)


def test_report_has_the_documented_form(comparison: Comparison) -> None:
    report = build_report(comparison, ["symdistill", "evaluate", "--data", "a b"], {"seed": 3}, {"total": 1.5})
    assert list(report) == [
        "schema", "verdict", "command", "config", "machine", "versions", "charset", "seconds", "readers", "pairs",
        "unlike_pairs",
    ]  # fmt: skip
    assert report["schema"] == 2
    assert report["command"] == "symdistill evaluate --data 'a b'"
    assert report["seconds"]["total"] == 1.5
    first = report["readers"][0]
    assert list(first) == [
        "name", "role", "reading", "params", "charset", "ms_per_word", "benchmarks",
        "average_by_word", "average_by_set",
    ]  # fmt: skip
    assert first["benchmarks"]["long"] == {
        "words": 4, "hits": 2, "accuracy": 50.0, "interval": [15.0039, 84.9961], "one_minus_ned": 50.0,
    }  # fmt: skip
    assert first["average_by_word"] == 60.0
    assert first["average_by_set"] == 75.0
    assert report["pairs"] == [
        {
            "a": "a|b", "b": "baseline", "words": 5, "only_a": 1, "only_b": 0, "both": 2, "neither": 2, "p": 1.0,
            "difference": 20.0, "interval": [-25.2269, 54.5843],
            "benchmarks": {
                "long": {"words": 4, "only_a": 1, "only_b": 0, "both": 1, "neither": 2},
                "short": {"words": 1, "only_a": 0, "only_b": 0, "both": 1, "neither": 0},
            },
        }
    ]  # fmt: skip
    assert json.loads(json.dumps(report)) == report


def test_closed_lexicon_stands_apart(comparison: Comparison) -> None:
    report = build_report(comparison, "evaluate")
    teacher = report["readers"][2]
    assert (teacher["role"], teacher["reading"]) == ("teacher", "closed-lexicon")
    assert teacher["benchmarks"]["long"]["lexicon"] == 4
    output = io.StringIO()
    print_report(report, Console(file=output, width=80))
    opened, closed = output.getvalue().split("Closed lexicon")
    assert "fake-clip" not in opened
    assert "a|b" in opened
    assert "(of 4 words)" in closed
    *tables, last = output.getvalue().splitlines()
    assert max(map(len, tables)) <= 80
    assert last == report["verdict"], "in one line, which the terminal wraps"
    opened, closed = to_markdown(report).split("## Closed lexicon")
    table = opened.partition("## Open reading")[2]
    assert "a\\|b" in table
    assert "fake-clip" not in table
    assert "fake-clip" in closed


def test_a_student_beside_a_teacher_that_chooses_has_counts_and_no_test(comparison: Comparison) -> None:
    report = build_report(comparison, "x")
    first, second = report["unlike_pairs"]
    assert [(pair["a"], pair["b"]) for pair in (first, second)] == [("a|b", "fake-clip"), ("baseline", "fake-clip")]
    assert {key: first[key] for key in ("words", "only_a", "only_b", "both", "neither")} == {
        "words": 5, "only_a": 0, "only_b": 2, "both": 3, "neither": 0,
    }  # fmt: skip
    assert "p" not in first
    assert first["benchmarks"]["long"]["only_b"] == 2
    text = to_markdown(report)
    tested, counted = text.split("## Open student against a teacher that chooses from a lexicon")
    assert "Student against teacher" not in tested
    assert "fake-clip" not in tested.split("## Pairs")[1]
    assert "| a\\|b | fake-clip | long | 4 | 2 | 0 | 2 | 0 |" in counted
    assert "| a\\|b | fake-clip | all | 5 | 3 | 0 | 2 | 0 |" in counted
    assert "no test" in counted


def test_markdown_names_both_averages_and_the_command(comparison: Comparison) -> None:
    text = to_markdown(build_report(comparison, "symdistill evaluate --student a"))
    assert "average by word | average by set" in text
    assert "symdistill evaluate --student a" in text
    assert "| 60.00 | 75.00 |" in text


def test_what_is_unusual_is_said(comparison: Comparison) -> None:
    report = build_report(comparison, "x", overlaps=OverlapCheck("train", ("long record 1 = mine record 7",)))
    assert report["overlaps"] == {"against": "train", "words": 1, "found": ["long record 1 = mine record 7"]}
    assert "1 test words are among those of train" in to_markdown(report)


@pytest.mark.parametrize("width", [50, 80, 300])
def test_no_number_is_cut_off_in_a_narrow_terminal(comparison: Comparison, width: int) -> None:
    report = build_report(comparison, "x")
    first = report["readers"][0]
    report["readers"] = [{**first, "name": f"reader-{number}"} for number in range(9)]
    report["pairs"] = report["unlike_pairs"] = []
    printed = io.StringIO()
    print_report(report, Console(file=printed, width=width))
    assert "…" not in printed.getvalue()
    assert printed.getvalue().count("50.00 (15.0–85.0)" if width > 80 else "50.00") == 9
    assert printed.getvalue().count("reader-") == 9


def test_what_looks_like_markdown_is_text_there(comparison: Comparison) -> None:
    report = build_report(comparison, "x") | {"warnings": ["x: <b>1</b> & `[a](b)` *c*, IC13_857"]}
    report["pairs"] = [{**report["pairs"][0], "p": 0.0}]
    text = to_markdown(report)
    assert r"- x: \<b>1\</b> \& \`\[a](b)\` \*c\*, IC13_857" in text
    assert "| < 1e-300 |" in text


def test_report_is_written_whole(tmp_path: Path, comparison: Comparison) -> None:
    from distill.deployment.card import scores_from_report

    report: dict[str, Any] = build_report(comparison, "x")
    out = tmp_path / "new" / "out"
    write_report(out, report)
    assert json.loads((out / "report.json").read_text()) == report
    assert sorted(file.name for file in out.iterdir()) == ["report.json", "report.md"]
    assert "60.00" in scores_from_report(out / "report.json", "a|b")


def test_output_is_never_lost(tmp_path: Path) -> None:
    fresh = tmp_path / "fresh" / "deep"
    assert check_report_folder(fresh, False) == fresh
    assert not fresh.parent.exists()
    assert check_report_folder(tmp_path, False) == tmp_path, "an empty folder"
    (tmp_path / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="other things than a report"):
            check_report_folder(tmp_path, overwrite)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(UserError, match="--overwrite"):
        check_report_folder(tmp_path, False)
    assert check_report_folder(tmp_path, True) == tmp_path
    with pytest.raises(UserError, match="no folder"):
        check_report_folder(tmp_path / "notes.txt" / "out", False)


def test_the_report_of_a_run_is_not_replaced_by_an_evaluation(tmp_path: Path) -> None:
    for name in (REPORT, "config.yaml"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="holds other things than a report"):
        check_report_folder(tmp_path, True)
