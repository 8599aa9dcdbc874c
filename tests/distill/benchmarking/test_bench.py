"""`bench`: the form of what it writes, how sides are measured in turn, and that each table says what it should."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import pytest

from distill.benchmarking import TABLES, Setup
from distill.benchmarking.loading import measure_startup, measure_worker, write_words
from distill.benchmarking.measuring import (
    MIN_ROUNDS,
    held_bytes,
    interleaved,
    peak_bytes,
    ratios,
    reset_peak,
    row,
)
from distill.commands.bench import main
from distill.data.datasets import load_words
from students.charset import Charset


def test_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    assert main(["--quick", "--rounds", "2", "--tables", "decode_over_encoder", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert {"machine", "versions", "rows", "command"} <= set(report)
    assert "torch" in report["versions"]
    assert [row["case"]["characters"] for row in report["rows"]] == [5, 12, 26]
    for actual in report["rows"]:
        assert set(actual) == {"table", "case", "median", "low", "high", "unit"}
        assert set(actual["case"]) == {"size", "batch", "characters"}
        assert (actual["table"], actual["unit"]) == ("decode_over_encoder", "x")
        assert 0 < actual["low"] <= actual["median"] <= actual["high"]
    assert "decode_over_encoder" in capsys.readouterr().out
    assert main(["--tables", "decode_over_encoder", "--out", str(out)]) == 2, "what is there is not replaced"


def test_a_ctc_student_with_and_without_a_decoder() -> None:
    rows = list(TABLES["ctc_step"](Setup(quick=True, rounds=1, seconds=0)))
    cases = [(each.case["of"], each.case.get("decoder"), each.unit) for each in rows]
    sides = [
        (of, side, unit) for side in ("beside", "none") for of, unit in (("words", "words/s"), ("share of peak", "%"))
    ]
    assert cases == [("matmul peak", None, "GFLOP/s"), *sides]
    assert all(0 < each.low <= each.median <= each.high for each in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--tables", "decoding"], "choose among decode_over_encoder"), (["--rounds", "0"], "1 or more"),
     (["--out", "no/such/folder/bench.json"], "a folder that exists")],
)  # fmt: skip
def test_mistakes_are_told_at_once(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_sides_take_turns_and_the_first_round_warms_up() -> None:
    order: list[str] = []
    sides = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = interleaved(sides, Setup(rounds=5, seconds=0))
    assert order == ["a", "b"] * (1 + MIN_ROUNDS)
    assert {name: len(values) for name, values in seconds.items()} == {"a": MIN_ROUNDS, "b": MIN_ROUNDS}


def test_a_row_is_a_median_with_quartiles() -> None:
    actual = row("table", {}, [5, 1, 2, 3, 4], "x")
    assert (actual.low, actual.median, actual.high) == (2, 3, 4)
    assert (row("table", {}, [7], "x").low, row("table", {}, [7], "x").high) == (7, 7)
    assert ratios([2, 9], [1, 3]) == [2, 3]


def test_memory_that_was_given_back_is_at_the_peak_but_not_held() -> None:
    written = b"1" * 2**26
    held, before = held_bytes(), reset_peak()
    with mmap.mmap(-1, 2**26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as given:
        given.write(written)
    assert peak_bytes() - before > 2**26 - 2**22
    assert held_bytes() - held < 2**25
    assert reset_peak() < before + 2**25


def test_words_of_the_start_up_table_are_words(tmp_path: Path) -> None:
    write_words(tmp_path / "words", 300)
    words = load_words(tmp_path / "words", Charset.load("36"))
    assert len(words) == 300
    seconds, held, peak = measure_startup(tmp_path / "words")
    assert seconds > 0
    assert peak >= 0
    assert held < 100
    own, mapped = measure_worker(tmp_path / "words", 2)
    assert own < 300
    assert mapped >= 0


def test_the_how_to_names_every_table(root: Path) -> None:
    message = (root / "docs/howto/bench.md").read_text(encoding="utf-8")
    for name in TABLES:
        assert f"| `{name}` |" in message
