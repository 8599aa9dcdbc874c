"""check_lmdb: what is printed, what is written, and the exit code."""

from __future__ import annotations

import io
import json
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from distill.commands.check_lmdb import main
from distill.data.sheets import CELL
from distill.data.writing import LmdbWriter


def encoded(seed: int) -> bytes:
    file = io.BytesIO()
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 20, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((120, 40), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, words: list[tuple[bytes, str]]) -> Path:
    with LmdbWriter(folder) as writer:
        for image, label in words:
            writer.add(image, label)
    return folder


def put(folder: Path, entries: dict[bytes, bytes]) -> None:
    with (
        lmdb.open(str(folder), map_size=2**24, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in entries.items():
            transaction.put(key, value)


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    good = encoded(0)
    labels = ["Hello", "it's", "!?", "\u4f60\u597d", "x" * 26]
    return write(tmp_path / "messy", [*((good, label) for label in labels), (good[:80], "cut"), (b"", "none")])


def test_the_command_reports_and_exits_1_for_corrupt_records(
    messy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(messy), "--json", "found.json"]) == 1
    printed = capsys.readouterr().out
    for part in ("messy", "too long", "你 (1)", "record 6 of messy"):
        assert part in printed
    report = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert (report["sets"][0]["usable"], report["overlaps"]) == (2, None)
    assert Image.open(tmp_path / "messy-samples.png").size == (7 * CELL[0], CELL[1])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere"], "nowhere"), (["."], "holds no LMDB"), (["set", "--charset", "no"], "alphabet"),
        (["set", "--against", "away"], "away"), (["set", "--sheet", "away/sheet.png"], "can't be written"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    if arguments[0] == "set":
        write(tmp_path / "empty" / "set", [(encoded(0), "a")])
    monkeypatch.chdir(tmp_path / "empty")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert (error.count("\n"), text in error) == (1, True)


def test_a_length_below_1_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write(tmp_path / "set", [(encoded(0), "a")])), "--max-length", "-3"]) == 2
    assert "--max-length: -3 won't do; give a whole number, 1 or more" in capsys.readouterr().err


def test_the_command_exits_1_for_leaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train", "test"):
        write(tmp_path / name, [(encoded(number), "a") for number in range(2)])
    assert main([str(tmp_path / "test"), "--against", str(tmp_path / "train"), "--no-sheet"]) == 1
    assert "2 pictures of these are in" in capsys.readouterr().out
    write(tmp_path / "clean", [(encoded(9), "a")])
    assert main([str(tmp_path / "clean"), "--against", str(tmp_path / "train"), "--no-sheet"]) == 0
    assert "no picture of these" in capsys.readouterr().out


def test_training_pictures_without_labels_are_searched_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "test", [(encoded(number), "a") for number in range(3)])
    write(tmp_path / "train" / "set", [(encoded(2), "a")])
    (tmp_path / "train" / "crops").mkdir()
    (tmp_path / "train" / "crops" / "0.png").write_bytes(encoded(0))
    assert main([str(tmp_path / "test"), "--against", str(tmp_path / "train"), "--no-sheet"]) == 1
    assert "2 pictures of these are in" in capsys.readouterr().out


def test_records_beyond_num_samples_are_said_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "set", [(encoded(0), "a")] * 5)
    assert main([str(folder), "--no-sheet"]) == 0
    put(folder, {b"num-samples": b"2"})
    assert main([str(folder), "--no-sheet"]) == 1
    assert "3 more records are stored than num-samples tells (2)" in capsys.readouterr().out


@pytest.mark.parametrize("count", [12, 130])
def test_labels_that_are_no_utf8_are_corrupt_and_all_named(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "set", [(encoded(0), "a")] * count)
    put(folder, {b"label-%09d" % number: b"caf\xe9" for number in range(1, count + 1)})
    assert main([str(folder), "--no-sheet", "--json", "found.json"]) == 1
    printed = capsys.readouterr().out
    named = min(count, 100)
    assert all(f"the label of record {number} of set is no UTF-8" in printed for number in range(1, named + 1))
    assert ("30 more; --json FILE names all" in printed) == (count > named)
    (report,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["sets"]
    assert (report["corrupt"], len(report["corrupt_records"]), report["usable"]) == (count, count, 0)


def test_illegible_marks_folded_characters_and_ctc_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["###", "*", "Caf\u00e9", "00000000000000000001", "\u4f60a"]
    folder = write(tmp_path / "set", [(encoded(0), label) for label in labels])
    assert main([str(folder), "--no-sheet", "--charset", "94"]) == 0
    printed = capsys.readouterr().out
    assert "2 labels dropped, illegible (marks for words that nobody can read): '###', '*'" in printed
    assert "characters outside the alphabet, replaced: \u00e9 (1)" in printed
    assert "characters outside the alphabet, left out: \u4f60 (1)" in printed
    assert "1 words need more than 32 columns with CTC: '00000000000000000001'" in printed
    assert main([str(folder), "--no-sheet", "--charset", "94", "--keep-illegible"]) == 0
    assert "dropped" not in capsys.readouterr().out.replace("\u2503", "").partition("width, height")[2]


def test_characters_of_the_alphabet_are_not_called_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alphabet = tmp_path / "german.txt"
    alphabet.write_text("abcdefghijklmnopqrstuvwxyz\u00e4\u00f6\u00fc\u00df", encoding="utf-8")
    words = ["Gr\u00fc\u00dfe", "K\u00e4se", "Mu\u0308ller"]
    folder = write(tmp_path / "set", [(encoded(0), word) for word in words])
    assert main([str(folder), "--no-sheet", "--charset", str(alphabet), "--json", "found.json"]) == 0
    assert "outside the alphabet" not in capsys.readouterr().out
    (report,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["sets"]
    assert (report["usable"], report["folded"], report["removed"]) == (3, {}, {})
    assert main([str(folder), "--no-sheet"]) == 0
    assert "replaced: \u00fc (2) \u00e4 (1)" in capsys.readouterr().out


def test_folders_with_gaps_repetitions_and_extra_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.png").write_bytes(encoded(1))
    (folder / "labels.csv").write_text("a.png,x\na.png,x\nb.png,y\ngone.png,z\n")
    assert main([str(folder), "--no-sheet"]) == 1
    printed = capsys.readouterr().out
    assert "1 entries repeat a picture with its label" in printed
    assert "1 pictures have no label: c.png" in printed
    assert "corrupt: gone.png of mine can't be read: No such file" in printed
    (folder / "labels.tsv").write_text("a.png\tx\n")
    assert main([str(folder), "--no-sheet"]) == 2
    assert "labels.tsv and labels.csv; remove all but one" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["[bold]", ":smile:", "a{b}", "[" + chr(92)])
def test_paths_that_look_like_markup_are_printed_as_they_are(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / name, [(encoded(0), "[/b]"), (b"", "x")])
    assert main([name, "--against", name]) == 1
    printed = capsys.readouterr().out
    assert f"{name}: corrupt: record 2 of {name} has no picture" in printed
    assert f"are in {name} as well" in printed
    assert f"sheet of samples: {name}-samples.png" in printed


def test_pictures_outside_of_all_sets_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "data" / "set", [(encoded(0), "a")])
    (tmp_path / "data" / "mine").mkdir()
    (tmp_path / "data" / "mine" / "x.png").write_bytes(encoded(1))
    assert main(["data", "--no-sheet"]) == 0
    named = "labels.tsv, labels.csv, labels.jsonl"
    line = f"1 pictures belong to no set, for want of a label file ({named}): data/mine/x.png"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["mine", "--json", "mine/labels.jsonl"], "mine/labels.jsonl is, or lies in, mine"),
        (["mine", "--sheet", "mine/a.png"], "mine/a.png is, or lies in, mine"),
        (["other", "--against", "mine", "--sheet", "mine/b.png"], "lies in, mine"),
        (["mine", "--json", "notes.txt"], "notes.txt exists, and check-lmdb has not written it"),
        (["mine", "--sheet", "photo.png"], "photo.png exists, and check-lmdb has not written it"),
        (["mine", "--sheet", "sheet.jpg"], "give a name that ends in .png"),
        (["mine", "--sheet", "x.png", "--json", "x.png"], "both name x.png"),
        (["mine", "--json", "/dev/null"], "/dev/null can't be written"),
    ],
)
def test_nothing_of_the_users_is_replaced(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "other", [(encoded(2), "b")])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.png").write_bytes(encoded(0))
    (tmp_path / "mine" / "labels.jsonl").write_text('{"file": "a.png", "label": "a"}')
    (tmp_path / "notes.txt").write_text("years of work")
    (tmp_path / "photo.png").write_bytes(encoded(1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main(arguments) == 2
    assert text in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_it_wrote_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "set", [(encoded(0), "a")])
    (tmp_path / "link.json").symlink_to(tmp_path / "found.json")
    for _ in range(2):
        assert main(["set", "--json", "link.json"]) == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "found.json").read_text())["sets"][0]["usable"] == 1


def test_no_sheet_is_left_among_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(0))
    (folder / "labels.tsv").write_text("a.png\ta\n")
    monkeypatch.chdir(folder)
    assert main(["."]) == 0
    assert "no sheet of samples" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "labels.tsv"]


def test_copies_with_other_labels_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "set", [(encoded(0), "one"), (encoded(1), "two"), (encoded(0), "one"), (encoded(1), "other")])
    assert main(["set", "--no-sheet", "--json", "found.json"]) == 0
    printed = capsys.readouterr().out
    assert "set: 2 pictures are stored more than once, to the byte" in printed
    assert "set: 1 of them with another label: record 2 of set 'two', record 4 of set 'other'" in printed
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["sets"][0]
    assert (found["copies"], len(found["contradictions"])) == (2, 1)


def test_label_files_of_other_names_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "Labels.csv").write_text("a.png,word\n", encoding="utf-8")
    assert main(["mine", "--no-sheet"]) == 2
    told = "no pictures with labels.tsv, labels.csv or labels.jsonl, at any depth; mine/Labels.csv is no label file"
    assert told in capsys.readouterr().err


def test_lost_spaces_look_alikes_json_and_tall_pictures_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tall = io.BytesIO()
    Image.new("RGB", (20, 60)).save(tall, "PNG")
    words = [
        (encoded(0), "No LIVING 0"), (encoded(1), "\u0410B12"), (encoded(2), '["two", "words"]'),
        (tall.getvalue(), "up"), (tall.getvalue(), "I"), (encoded(3), "a\u200bb"),
    ]  # fmt: skip
    assert main([str(write(tmp_path / "set", words)), "--no-sheet"]) == 0
    printed = capsys.readouterr().out
    assert 'set: 2 labels lose their spaces, which alphabet 95 has: No LIVING 0, ["two", "words"]' in printed
    assert "set: 1 pictures of several characters are 1.5 times as high as wide" in printed
    assert 'set: 1 label is JSON, which no picture shows: ["two", "words"]; write the words alone' in printed
    assert "\u0410 Cyrillic (1)" in printed
    assert "U+200B (1)" in printed
    assert "\u0410 Cyrillic only look like Latin letters; write these in the labels" in printed


def test_all_that_is_damaged_beside_the_words_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "set", [(encoded(0), "a")] * 130)
    put(folder, {b"confidence-%09d" % number: b"2" for number in range(1, 131)})
    assert main([str(folder), "--no-sheet"]) == 1
    assert "damaged beside picture and label: 30 more; --json FILE names all" in capsys.readouterr().out


def test_a_list_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "set_3", [(encoded(number), label) for number, label in enumerate(("a", "b", "c"))])
    (tmp_path / "set_2.indices.txt").write_text("1\n3\n")
    for name in ("set_2.indices.txt", "set_2"):
        assert main([name, "--no-sheet"]) == 0
        assert "set_2" in capsys.readouterr().out
