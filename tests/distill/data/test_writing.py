"""LmdbWriter and make_lmdb: whole or not at all, and what was left out is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from distill.commands.make_lmdb import main
from distill.data.lmdb_reader import LmdbRecords
from distill.data.writing import LmdbWriter
from students.errors import UserError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "new" / "set") as writer:
        for number in range(2500):
            writer.add(b"%d" % number * 9000, f"wört {number}", bytes([number % 128]) * 32)
        assert not (tmp_path / "new" / "set").exists(), "nothing under the name before the end"
    records = LmdbRecords(tmp_path / "new" / "set")
    assert len(records) == 2500
    for position in (0, 999, 1000, 2499):
        assert records.image(position) == b"%d" % position * 9000
        assert records.label(position) == f"wört {position}"
        assert records.columns(position) == bytes([position % 128]) * 32
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["set"]
    assert [file.name for file in (tmp_path / "new" / "set").iterdir()] == ["data.mdb"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> None:
        with LmdbWriter(tmp_path / "set") as writer:
            writer.add(b"x", "y")
            raise KeyError

    with pytest.raises(KeyError):
        stop()
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "set") as writer:
        writer.add(b"old", "old")
    with pytest.raises(UserError, match="exists"):
        LmdbWriter(tmp_path / "set")
    with LmdbWriter(tmp_path / "set", overwrite=True) as writer:
        writer.add(b"new", "new")
    assert LmdbRecords(tmp_path / "set").label(0) == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["set"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="no LMDB"):
        LmdbWriter(tmp_path / "mine", overwrite=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mine"
    place.mkdir()
    lines = []
    for number, word in enumerate(["Harbour", "zürich", "!?", "你好", "x" * 26, "broken", "gone"]):
        Image.new("RGB", (30, 12), (number, 0, 0)).save(place / f"{number}.png")
        lines.append(f"{number}.png\t{word}\n")
    (place / "5.png").write_bytes((place / "5.png").read_bytes()[:60])
    (place / "6.png").unlink()
    (place / "labels.tsv").write_text("".join(lines), encoding="utf-8")
    return place


def test_make_lmdb_counts_by_reason(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), str(tmp_path / "set")]) == 0
    records = LmdbRecords(tmp_path / "set")
    assert [label for _, label in records.labels()] == ["Harbour", "zürich", "!?"], "labels as they stand"
    assert records.image(1) == (folder / "1.png").read_bytes(), "nothing is encoded again"
    told = capsys.readouterr().out
    for part in (
        "3 of 7 words written", "1 outside the alphabet", "1 too long", "2 without a picture", "5.png of mine",
        "6.png of mine", "你好",
    ):  # fmt: skip
        assert part in told
    assert main([str(folder), str(tmp_path / "digits"), "--charset", "36"]) == 0
    assert len(LmdbRecords(tmp_path / "digits")) == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["nowhere", "out"], "nowhere"), (["mine", "mine"], "exists"), (["mine", "out", "--charset", "xyz"], "xyz")],
)
def test_make_lmdb_tells_mistakes_in_one_line(
    folder: Path, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["mine"], "nothing is written"


def test_make_lmdb_writes_no_empty_set(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "labels.tsv").write_text("3.png\t你好\n", encoding="utf-8")
    assert main([str(folder), str(tmp_path / "set")]) == 2
    assert "no word is left" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()
