"""make_lmdb: what is written, and what is left out and reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from distill.commands.make_lmdb import main
from distill.data.lmdb_reader import LmdbRecords


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "mine"
    path.mkdir()
    lines = []
    for number, word in enumerate(["Harbour", "zürich", "!?", "你好", "x" * 26, "broken", "gone"]):
        Image.new("RGB", (30, 12), (number, 0, 0)).save(path / f"{number}.png")
        lines.append(f"{number}.png\t{word}\n")
    (path / "5.png").write_bytes((path / "5.png").read_bytes()[:60])
    (path / "6.png").unlink()
    (path / "labels.tsv").write_text("".join(lines), encoding="utf-8")
    return path


def test_words_are_counted_by_reason(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), str(tmp_path / "set")]) == 0
    records = LmdbRecords(tmp_path / "set")
    assert [label for _, label in records.labels()] == ["Harbour", "zürich", "!?"], "labels as they stand"
    assert records.image(1) == (folder / "1.png").read_bytes(), "nothing is encoded again"
    printed = capsys.readouterr().out
    for part in (
        "3 of 7 words written", "1 outside the alphabet", "1 too long", "1 without a picture that can be read",
        "1 whose picture is missing", "5.png of mine",
        "6.png of mine", "你好", "outside the alphabet in so many of the words written: ü (1)",
    ):  # fmt: skip
        assert part in printed
    assert main([str(folder), str(tmp_path / "digits"), "--charset", "36"]) == 0
    assert len(LmdbRecords(tmp_path / "digits")) == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(["nowhere", "out"], "nowhere"), (["mine", "mine"], "lies in"), (["mine", "out", "--charset", "xyz"], "xyz")],
)
def test_mistakes_are_one_line(
    folder: Path,
    arguments: list[str],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder.parent)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert text in error
    assert sorted(entry.name for entry in folder.parent.iterdir()) == ["mine"], "nothing is written"


def test_no_empty_set_is_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "labels.tsv").write_text("3.png\t你好\n", encoding="utf-8")
    assert main([str(folder), str(tmp_path / "set")]) == 2
    assert "no word is left" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def labels(folder: Path) -> list[str | None]:
    return [label for _, label in LmdbRecords(folder).labels()]


def test_a_damaged_avif_is_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    path = tmp_path / "in"
    path.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 120, 3), np.uint8)
    Image.fromarray(pixels).save(path / "good.avif")
    data = bytearray((path / "good.avif").read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    (path / "flip.avif").write_bytes(data[: len(data) * 3 // 4])
    (path / "labels.tsv").write_text("good.avif\tharbour\nflip.avif\tmuseum\n")
    assert main([str(path), str(tmp_path / "out")]) == 0
    assert labels(tmp_path / "out") == ["harbour"]
    assert "1 without a picture that can be read" in capsys.readouterr().out


def test_marks_for_illegible_words_are_dropped_unless_asked_for(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "labels.tsv").write_text("0.png\tharbour\n1.png\t###\n2.png\t*\n3.png\t#1\n")
    assert main([str(folder), str(tmp_path / "set")]) == 0
    assert labels(tmp_path / "set") == ["harbour", "#1"]
    assert "dropped: 2 illegible" in capsys.readouterr().out
    assert main([str(folder), str(tmp_path / "all"), "--keep-illegible"]) == 0
    assert labels(tmp_path / "all") == ["harbour", "###", "*", "#1"]


def test_characters_of_the_alphabet_are_kept(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "german.txt").write_text("abcdefghijklmnopqrstuvwxyz\u00e4\u00f6\u00fc\u00df\n", encoding="utf-8")
    (folder / "labels.tsv").write_text("0.png\t\u00fc\u00df\n1.png\tu\u0308\n2.png\t7\n", encoding="utf-8")
    assert main([str(folder), str(tmp_path / "set"), "--charset", str(tmp_path / "german.txt")]) == 0
    assert labels(tmp_path / "set") == ["\u00fc\u00df", "u\u0308"], "as they stand"
    assert "1 outside the alphabet" in capsys.readouterr().out


def test_repeated_and_unlisted_pictures_are_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "labels.tsv").write_text("0.png\tHarbour\n0.png\tHarbour\n1.png\tBank\n")
    assert main([str(folder), str(tmp_path / "set")]) == 0
    assert labels(tmp_path / "set") == ["Harbour", "Bank"]
    printed = capsys.readouterr().out
    assert "1 entries repeat a picture" in printed
    assert "4 pictures are not in" in printed
    assert "2.png, 3.png, 4.png, 5.png" in printed
    (folder / "labels.tsv").write_text("0.png\tHarbour\n0.png\tBank\n")
    assert main([str(folder), str(tmp_path / "again")]) == 2
    assert "0.png is 'Harbour' in line 1 and 'Bank' in line 2" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a[/b]", "[bold]", ":smile:", "a{b}", "\\[x]\\"])
def test_paths_that_look_like_markup_are_printed_as_they_are(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name.replace("/", "") / "in"
    path.parent.mkdir()
    folder.rename(path)
    monkeypatch.chdir(tmp_path)
    path = path.relative_to(tmp_path)
    if "/" in name:  # brackets and a slash: two folders
        (tmp_path / "a[").mkdir()
        (tmp_path / "a[" / "b]").symlink_to(tmp_path / path)
        path = Path(name)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    assert main([str(path), f"{path}-out"]) == 0
    printed, _ = capsys.readouterr()
    assert f"{path}-out: 3 of 7 words written" in printed
    assert labels(Path(f"{path}-out")) == ["Harbour", "z\u00fcrich", "!?"]


def test_a_folder_of_links_into_a_cache_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blobs, folder = tmp_path / "linked" / "blobs", tmp_path / "s" / "abc"
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    for number, name in enumerate(("1111", "3333")):
        Image.new("RGB", (30, 12), (number, 0, 0)).save(blobs / name, "PNG")
    (blobs / "2222").write_text("a.png\tharbour\nb.png\tmuseum\n")
    (tmp_path / "secret").write_bytes((blobs / "3333").read_bytes())
    (folder / "a.png").symlink_to("../../linked/blobs/1111")
    (folder / "b.png").symlink_to("../../secret")
    (folder / "labels.tsv").symlink_to("../../linked/blobs/2222")
    assert main([str(folder), str(tmp_path / "out")]) == 0
    assert labels(tmp_path / "out") == ["harbour"]
    assert "b.png of abc is a link that leads out of the folder" in capsys.readouterr().out


def test_it_is_not_written_among_the_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), str(folder / "set")]) == 2
    assert "lies in" in capsys.readouterr().err
    assert not (folder / "set").exists()


def test_what_is_a_set_already_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), str(tmp_path / "out")]) == 0
    assert main([str(tmp_path / "out"), str(tmp_path / "again")]) == 2
    assert "is an LMDB already" in capsys.readouterr().err
    (folder / "inner").mkdir()
    (folder / "inner" / "labels.tsv").write_text("a.png\tword\n", encoding="utf-8")
    assert main([str(folder), str(tmp_path / "again")]) == 2
    assert "inside it; move one of them elsewhere" in capsys.readouterr().err, "as check-lmdb says it"


def test_labels_in_quotation_marks_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (90, 40), "white").save(mine / name)
    (mine / "labels.tsv").write_text('a.png\t"1,99"\nb.png\tword\n', encoding="utf-8")
    assert main([str(mine), str(tmp_path / "out")]) == 0
    assert '1 label stands in quotation marks, which are taken for part of the word: "1,99"' in capsys.readouterr().out
