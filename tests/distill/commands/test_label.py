"""label: what is written, what is left out and told, and that neither a kill nor a second process changes it."""

from __future__ import annotations

import json
from pathlib import Path

import lmdb
import pytest
from PIL import Image

from distill.commands.label import main
from distill.data.distributions import DistributionReader
from distill.data.lmdb_reader import LmdbRecords
from distill.data.writing import LmdbWriter
from distill.labelling import job
from students.charset import Charset
from students.errors import UserError
from tests.distill.conftest import Learned, draw


@pytest.fixture(scope="module")
def reader(learned: Learned, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("readers") / "mini"
    learned.student.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def pictures(learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate(learned.pictures):
        picture.save(folder / f"{number:02d}.png")
    (folder / "98.png").write_bytes((folder / "00.png").read_bytes()[:60])
    (folder / "99.png").write_bytes(b"")
    monkeypatch.setattr(job, "PART", 3)
    return folder


def content(folder: Path) -> dict[bytes, bytes]:
    with lmdb.open(str(folder), readonly=True, lock=False) as opened, opened.begin() as transaction:
        return dict(transaction.cursor())


def test_pictures_are_labelled(
    learned: Learned, reader: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    assert main([str(pictures), str(out), "--reader", reader, "--threshold", "0.5"]) == 0
    records = LmdbRecords(out)
    assert [label for _, label in records.labels()] == learned.words
    assert records.image(3) == (pictures / "03.png").read_bytes(), "nothing is encoded again"
    taught = DistributionReader(records, learned.student.charset)
    assert taught.stored.words == len(learned.words)
    for position, word in enumerate(learned.words):
        given = taught.read(position, word)
        assert given is not None
        ends = [*(learned.student.charset.ids[char] for char in word), 0]
        assert given.ids[:, 0].tolist() == ends, "the likeliest are those of the word and the end"
    printed = capsys.readouterr().out
    assert "10 of 12 pictures written" in printed
    assert "2 damaged picture" in printed
    report = json.loads((out / "label.json").read_text())
    assert sum(report["left_out"].values()) == 2
    lines = (out / "doubtful.tsv").read_text().splitlines()
    assert len(lines) == 3
    assert "98.png of pictures\tdamaged picture" in lines[1]
    with Image.open(out / "doubtful.png") as sheet:
        assert sheet.width > 100
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")], "nothing is left beside"


def test_a_small_alphabet_has_as_many_classes_as_there_are(reader: str, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "abc.txt").write_text("ab1\n")
    options = ["--reader", reader, "--threshold", "0", "--charset", str(tmp_path / "abc.txt"), "--likeliest", "20"]
    assert main([str(pictures), str(tmp_path / "set"), *options]) == 0
    taught = DistributionReader(LmdbRecords(tmp_path / "set"), Charset("ab1"))
    assert taught.stored.likeliest == 4
    for position, label in LmdbRecords(tmp_path / "set").labels():
        taught.read(position, label or "")


def test_a_killed_run_goes_on_and_processes_change_nothing(
    reader: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--reader", reader, "--threshold", "0.5"]
    assert main([str(pictures), str(tmp_path / "whole"), *arguments]) == 0
    assert 0.5 <= float(content(tmp_path / "whole")[b"confidence-000000004"]) <= 1
    done: list[int] = []
    whole = job.PartReader.work

    def killed(self: job.PartReader, part: job.Part) -> int:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(part.number)
        return whole(self, part)

    monkeypatch.setattr(job.PartReader, "work", killed)
    with pytest.raises(KeyboardInterrupt):
        main([str(pictures), str(tmp_path / "killed"), *arguments])
    assert not (tmp_path / "killed").exists()
    monkeypatch.setattr(job.PartReader, "work", whole)
    capsys.readouterr()
    assert main([str(pictures), str(tmp_path / "killed"), *arguments, "--threshold", "0.6"]) == 2
    assert "with other options" in capsys.readouterr().err
    assert main([str(pictures), str(tmp_path / "killed"), *arguments, "--workers", "2"]) == 0
    assert "2 of 4 parts are done" in capsys.readouterr().out
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert (tmp_path / "killed" / "label.json").read_text() == (tmp_path / "whole" / "label.json").read_text()


def test_labels_stay_and_mistakes_are_listed(
    learned: Learned, reader: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["7", "a1", "0c0c", "39a", "C2C2C"]
    pictures = ["7", "a1", "b0c", "39ab", "c2c2c"]
    with LmdbWriter(tmp_path / "own") as writer:
        for word, picture in zip(words, pictures, strict=True):
            draw(picture).save(tmp_path / "word.png")
            writer.add((tmp_path / "word.png").read_bytes(), word)
    out = tmp_path / "checked"
    arguments = [str(tmp_path / "own"), "--reader", reader, "--threshold", "0.5"]
    assert main([arguments[0], str(out), *arguments[1:]]) == 0
    assert [label for _, label in LmdbRecords(out).labels()] == words, "as they stand"
    lines = [line.split("\t") for line in (out / "mistakes.tsv").read_text().splitlines()[1:]]
    assert {(line[2], line[4]) for line in lines} == {("0c0c", "b0c"), ("39a", "39ab")}
    assert [float(line[3]) for line in lines] == sorted((float(line[3]) for line in lines), reverse=True)
    printed = capsys.readouterr().out
    assert "of 5 labels 5 (100.0%)" in printed
    assert "3 of these (60.0%) as they stand" in printed
    taught = DistributionReader(LmdbRecords(out), learned.student.charset)
    assert taught.stored.words == 3, "none where it reads another word"
    assert main([arguments[0], str(tmp_path / "clean"), *arguments[1:], "--drop-mistakes"]) == 0
    assert [label for _, label in LmdbRecords(tmp_path / "clean").labels()] == ["7", "a1", "C2C2C"]
    assert "left out: 2 likely a wrong label" in capsys.readouterr().out
    assert main([arguments[0], str(tmp_path / "anew"), *arguments[1:], "--relabel"]) == 0
    assert [label for _, label in LmdbRecords(tmp_path / "anew").labels()] == pictures


def test_words_of_a_list_are_likely(pictures: Path, tmp_path: Path) -> None:
    rare = tmp_path / "words.txt"
    rare.write_text("unheard\n")
    confidences = {}
    for model in ("none", "european", str(rare)):
        arguments = [str(pictures), str(tmp_path / "set"), "--reader", "tiny", "--threshold", "0", "--overwrite"]
        assert main([*arguments, "--language-model", model]) == 0
        confidences[model] = {key: value for key, value in content(tmp_path / "set").items() if key.startswith(b"conf")}
    assert confidences["none"] != confidences["european"] != confidences[str(rare)]

    # A job that was stopped doesn't go on with a list that has changed.
    request = job.LabelRequest(str(pictures), ("tiny",), "0123456789", language_model=f"european+{rare}")
    job.open_job(request, request.open_records(), tmp_path / "job")
    job.open_job(request, request.open_records(), tmp_path / "job")
    rare.write_text("unheard\nword\n")
    with pytest.raises(UserError, match="with other options"):
        job.open_job(request, request.open_records(), tmp_path / "job")


def test_a_reader_of_a_plugin_labels(learned: Learned, pictures: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "my_labeller.py"
    plugin.write_text(
        "from students.student import Student\nfrom teachers.registry import register_reader\n\n\n"
        'register_reader("my labeller")(type("Labeller", (Student,), {}))\n'
    )
    folder = tmp_path / "mine"
    learned.student.save_pretrained(folder)
    stored = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**stored, "format": "my labeller"}))
    arguments = [str(pictures), str(tmp_path / "set"), "--reader", str(folder), "--threshold", "0.5"]
    assert main(arguments) == 2
    assert main([*arguments, "--plugin", str(plugin)]) == 0
    assert len(LmdbRecords(tmp_path / "set")) == len(learned.words)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere", "out"], "nowhere: no such folder"),
        (["pictures", "pictures", "--overwrite"], "pictures is, or lies in, pictures, whose pictures are read"),
        (["pictures", "pictures/labelled"], "give a place outside of it"),
        (["pictures", "."], "the folder that you are in"),
        (["pictures", "out", "--reader", "nobody"], "nobody"),
        (["pictures", "out", "--charset", "94"], "lower case alone"),
        (["pictures", "out", "--threshold", "90"], "0 to 1"),
        (["pictures", "out", "--agree", "2"], "1 to 1"),
        (["pictures", "out", "--likeliest", "-1"], "0 or more"),
        (["pictures", "out", "--relabel", "--drop-mistakes"], "leave one out"),
        (["pictures", "out", "--reader", "a", "--reader", "a"], "given twice"),
        (["pictures", "out", "--threshold", "1"], "no picture is left"),
        (["pictures", "out", "--language-model", "european"], "none of these reads by CTC"),
        (["pictures", "out", "--reader", "tiny", "--language-model", "no.txt"], "no.txt: can't be read"),
    ],
)
def test_mistakes_are_one_line(
    reader: str, pictures: Path, arguments: list[str], text: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(pictures.parent)
    given = arguments if "--reader" in arguments else [*arguments, "--reader", reader]
    assert main(given) == 2
    error = capsys.readouterr().err.splitlines()
    assert text in error[-1]
    assert [line for line in error if not line.startswith("labelling")] == error[-1:]
    assert not Path("out").exists()
    assert not list(pictures.parent.glob(".*")), "what would refuse the next one"


def test_pictures_beside_a_label_file_and_line_ends_in_labels(
    learned: Learned, reader: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "labels.tsv").write_text(f"00.png\t{learned.words[0]}\n")
    (pictures / "README").write_text("pictures of somebody")
    arguments = ["--reader", reader, "--threshold", "0.5"]
    assert main([str(pictures), str(tmp_path / "set"), *arguments]) == 0
    assert "1 keep their own labels, 9 are labelled" in capsys.readouterr().out
    with LmdbWriter(tmp_path / "lines") as writer:
        for number, word in enumerate(learned.words):
            writer.add((pictures / f"{number:02d}.png").read_bytes(), f"{word[::-1]}\nx\n")
        writer._pending.append((b"image-000000000", b"never read"))
    assert main([str(tmp_path / "lines"), str(tmp_path / "labelled"), *arguments]) == 0
    assert (tmp_path / "labelled" / "mistakes.png").is_file()
    assert "passed over: 1 records" in capsys.readouterr().out


def test_labels_that_cannot_be_read_are_not_replaced(
    reader: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LmdbWriter(tmp_path / "words") as writer:
        writer.add((pictures / "00.png").read_bytes(), "word")
        writer._pending[-1] = (b"label-000000001", b"caf\xe9")
    arguments = [str(tmp_path / "words"), str(tmp_path / "out"), "--reader", reader, "--threshold", "0.5"]
    assert main(arguments) == 2
    assert "1 labels are no UTF-8, and would be replaced by what is read" in capsys.readouterr().err
    assert main([*arguments, "--relabel"]) == 0


def test_labels_under_another_name_are_said_at_the_start(
    reader: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "labels.txt").write_text("00.png\tword\n")
    assert main([str(pictures), str(tmp_path / "out"), "--reader", reader, "--threshold", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("not used, for these are no names of label files: ") < printed.index("written")
