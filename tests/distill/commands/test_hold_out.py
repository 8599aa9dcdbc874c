"""hold_out: a label's pictures go to one side together, alike in every run, and nothing is lost."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import lmdb
import pytest
from PIL import Image

from distill.commands.hold_out import main
from distill.data.distributions import StoredDistributions
from distill.data.holding_out import is_held_out
from distill.data.lmdb_reader import LmdbRecords
from distill.data.writing import LmdbWriter

WORDS = [f"word{number}" for number in range(40)]


def encode_picture() -> bytes:
    stored = io.BytesIO()
    Image.new("RGB", (20, 8), "white").save(stored, format="PNG")
    return stored.getvalue()


PICTURE = encode_picture()
"""Decoders don't mind what stands behind it."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, words in {"signs": WORDS, "more/plates": [word.upper() + "!" for word in WORDS]}.items():
        with LmdbWriter(tmp_path / "data" / name) as writer:
            for word in words:
                writer.add(PICTURE + word.encode(), word)
    return tmp_path / "data"


def stored(path: Path) -> list[tuple[str, bytes]]:
    records = LmdbRecords(path)
    return [(label or "", records.image(position)) for position, label in records.labels()]


def test_a_word_is_on_one_side_alone(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(data), str(tmp_path / "out"), "--every", "4"]) == 0
    held = stored(tmp_path / "out" / "held-out")
    sides = [stored(tmp_path / "out" / "train" / name) for name in ("signs", "more/plates")]
    assert all(PICTURE + label.encode() == image for side in (held, *sides) for label, image in side)
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
    assert is_held_out("Zürich", 2) == is_held_out("Zu\u0308rich", 2), "composed or not"
    for label, remainder in {"abc": 3, "A-B C!": 3, "Harbour": 0, "": 0}.items():
        assert is_held_out(label, 5) == (remainder == 0)
    assert 891568578 % 5 == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere", "out"], "nowhere: no such folder"),
        (["data", "out", "--every", "1"], "2 or more"),
        (["data", "out", "--every", "99999999"], "choose a smaller --every"),
        (["data", "data"], "data is, or lies in, data"),
        (["data", "data/held"], "give a place outside of it"),
        (["data", "there"], "there exists; give another folder"),
        (["data", "."], "the folder that you are in"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], text: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there" / "sub").mkdir(parents=True)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert text in error
    assert not (tmp_path / "out").exists()


def test_what_is_stored_with_a_word_goes_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    described = StoredDistributions("abc", 1, 25, ("reader",), 40)
    with LmdbWriter(tmp_path / "set") as writer:
        for number, word in enumerate(WORDS):
            writer.add(PICTURE, word, b"c" * 32, b"%d" % number, number / 100)
        writer.describe_distributions(described.to_json())
        writer._pending += [(b"image-000000000", b"picture"), (b"image-000000099", b"picture")]
    with LmdbWriter(tmp_path / "all" / "tree" / "none") as writer:
        writer.add(PICTURE, "!")
    (tmp_path / "set").rename(tmp_path / "all" / "set")
    assert main([str(tmp_path / "all"), str(tmp_path / "out"), "--every", "2"]) == 0
    train, held = LmdbRecords(tmp_path / "out" / "train" / "set"), LmdbRecords(tmp_path / "out" / "held-out")
    for records in (train, held):
        for position, label in records.labels():
            number = WORDS.index(label) if label in WORDS else None
            assert records.confidence(position) == (None if number is None else number / 100)
            assert records.columns(position) == (None if number is None else b"c" * 32)
            assert records.distribution(position) == (b"%d" % number if records is train else None)
    assert StoredDistributions.read(train) == dataclasses.replace(described, words=len(train))
    assert held.distributions() is None
    assert not (tmp_path / "out" / "train" / "tree").exists(), "a set of which nothing is left"
    assert "passed over: 2 records" in capsys.readouterr().out


def test_empty_labels_are_no_words_and_odd_shares_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"w{number}" for number in range(40)]
    held = [word for word in words if is_held_out(word, 8)]
    left = [word for word in words if not is_held_out(word, 8)]
    with LmdbWriter(tmp_path / "data") as writer:
        for label in ("", "  ", left[0], *held):
            writer.add(PICTURE, label)
    assert main([str(tmp_path / "data"), str(tmp_path / "out"), "--every", "8"]) == 0
    printed = capsys.readouterr().out
    assert f"held-out: {len(held)} of {len(held) + 1} words" in printed
    assert "the share may be far from one in N" in printed
    assert "left out: 2 without a readable label or picture" in printed


def test_words_without_a_picture_are_on_neither_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels.tsv").write_text("".join(f"{word}.png\t{word}\n" for word in WORDS), encoding="utf-8")
    assert main([str(tmp_path / "data"), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "one part would have none of the 0 words that can be read" in error
    assert not (tmp_path / "out" / "held-out").exists()


def test_pictures_without_a_label_file_are_said(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "more" / "labels.txt").write_text("a.png\tword\n")
    (data / "more" / "a.png").write_bytes(b"picture")
    assert main([str(data), str(tmp_path / "out"), "--every", "4"]) == 0
    assert "1 pictures belong to no set, for want of a label file" in capsys.readouterr().out


def test_a_refused_division_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The labels go to both sides, and all pictures of one side are missing: that is found while they are written."""
    with LmdbWriter(tmp_path / "data") as writer:
        for word in WORDS:
            writer.add(b"" if is_held_out(word, 4) else PICTURE, word)
    before = sorted(tmp_path.iterdir())
    assert main([str(tmp_path / "data"), str(tmp_path / "out"), "--every", "4"]) == 2
    assert "choose another --every" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert main([str(tmp_path / "data"), str(tmp_path / "out"), "--every", "3"]) == 0


def test_a_confidence_that_is_no_number_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LmdbWriter(tmp_path / "data") as writer:
        for word in WORDS:
            writer.add(PICTURE, word)
    with lmdb.open(str(tmp_path / "data")) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"confidence-000000001", b"abc")
    assert main([str(tmp_path / "data"), str(tmp_path / "out")]) == 0
    assert "1 without their confidence, which is no number from 0 to 1" in capsys.readouterr().out
    assert sum(len(stored(path.parent)) for path in (tmp_path / "out").rglob("data.mdb")) == len(WORDS)


def test_damaged_pictures_and_marks_for_illegible_words_are_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LmdbWriter(tmp_path / "data") as writer:
        for word in WORDS:
            writer.add(PICTURE[:40] if word == "word3" else PICTURE, word)
        for mark in ("###", "*", "."):
            writer.add(PICTURE, mark)
    assert main([str(tmp_path / "data"), str(tmp_path / "out"), "--every", "4"]) == 0
    printed = capsys.readouterr().out
    assert "left out: 1 without a readable label or picture: record 4 of data can't be read as a picture" in printed
    assert "left out: 3 marked as illegible" in printed
    written = [label for path in (tmp_path / "out").rglob("data.mdb") for label, _ in stored(path.parent)]
    assert sorted(written) == sorted(set(WORDS) - {"word3"})


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["###", "*"], "data has no labelled words"), (["Stop", "STOP", "stop!"], "all words have one label, 'stop'")],
)
def test_what_cannot_be_divided_is_said(
    labels: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LmdbWriter(tmp_path / "data") as writer:
        for label in labels:
            writer.add(PICTURE, label)
    assert main([str(tmp_path / "data"), str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_signs_are_held_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LmdbWriter(tmp_path / "data") as writer:
        for label in (*WORDS, "&", "-", "&"):
            writer.add(PICTURE, label)
    assert main([str(tmp_path / "data"), str(tmp_path / "out"), "--every", "4"]) == 0
    assert "3 of them have no letters or digits" in capsys.readouterr().out
    assert {"&", "-"} <= {label for label, _ in stored(tmp_path / "out" / "held-out")}


def test_unlisted_pictures_and_repeated_entries_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    for word in (*WORDS, "more"):
        (tmp_path / "data" / f"{word}.png").write_bytes(PICTURE)
    lines = [f"{word}.png\t{word}\n" for word in (*WORDS, WORDS[0])]
    (tmp_path / "data" / "labels.tsv").write_text("".join(lines), encoding="utf-8")
    assert main([str(tmp_path / "data"), str(tmp_path / "out"), "--every", "4"]) == 0
    printed = capsys.readouterr().out
    assert "data: 1 pictures have no label: more.png" in printed
    assert "data: 1 entries repeat a picture with its label and count once" in printed
