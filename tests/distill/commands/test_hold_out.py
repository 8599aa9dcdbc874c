"""hold_out: a label's pictures go to one side together, alike in every run, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.commands.hold_out import main
from distill.data.holding_out import is_held_out
from distill.data.lmdb_reader import LmdbRecords
from distill.data.writing import LmdbWriter

WORDS = [f"word{number}" for number in range(40)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, words in {"signs": WORDS, "more/plates": [word.upper() + "!" for word in WORDS]}.items():
        with LmdbWriter(tmp_path / "data" / name) as writer:
            for word in words:
                writer.add(word.encode(), word)
    return tmp_path / "data"


def stored(path: Path) -> list[tuple[str, bytes]]:
    records = LmdbRecords(path)
    return [(label or "", records.image(position)) for position, label in records.labels()]


def test_a_word_is_on_one_side_alone(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(data), str(tmp_path / "out"), "--every", "4"]) == 0
    held = stored(tmp_path / "out" / "held-out")
    sides = [stored(tmp_path / "out" / "train" / name) for name in ("signs", "more/plates")]
    assert all(label.encode() == image for side in (held, *sides) for label, image in side)
    assert sorted(label for side in (held, *sides) for label, _ in side) == sorted(
        [*WORDS, *(word.upper() + "!" for word in WORDS)]
    )
    assert {label.lower().rstrip("!") for label, _ in held} == {word for word in WORDS if is_held_out(word, 4)}
    assert 10 <= len(held) <= 30, "about a quarter of 80"
    printed = capsys.readouterr().out
    assert f"held-out: {len(held)} of 80 words" in printed
    assert f"signs: {len(sides[0])} words" in printed


def test_the_rule_is_crc32_of_letters_and_digits() -> None:
    # crc32 of "abc" is 891568578, of "harbour" 1533582490, of nothing 0.
    for label, remainder in {"abc": 3, "A-B C!": 3, "Harbour": 0, "": 0}.items():
        assert is_held_out(label, 5) == (remainder == 0)
    assert 891568578 % 5 == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere", "out"], "nowhere: no such folder"),
        (["data", "out", "--every", "1"], "give 2 or more"),
        (["data", "out", "--every", "99999999"], "choose another --every"),
        (["data", "data"], "data"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], text: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert text in error
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").rglob("data.mdb"))
