"""`read`: path, word, confidence; everything or one line about what is wrong."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from distill.commands.export import main as export
from distill.commands.read import has_pages, main
from students.parseq import Parseq, ParseqConfig


@pytest.fixture(scope="module")
def reader_and_pictures(learned, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A student folder and a folder with its pictures, named so that their order is that of its words."""
    root = tmp_path_factory.mktemp("read")
    learned.student.save_pretrained(root / "student")
    (root / "pictures").mkdir()
    for number, picture in enumerate(learned.pictures):
        picture.save(root / "pictures" / f"{number:02}.png")
    return root / "student", root / "pictures"


@pytest.mark.parametrize("batch", ["1", "4", "64"])
def test_lines_of_path_word_confidence(
    learned, reader_and_pictures, batch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    student, pictures = reader_and_pictures
    assert main(["--student", str(student), "--batch", batch, str(pictures)]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [word for _, word, _ in lines] == learned.words
    assert [Path(path).name for path, _, _ in lines] == [f"{n:02}.png" for n in range(len(lines))]
    expected = [reading.confidence for reading in learned.student.read(learned.pictures)]
    assert [float(sure) for _, _, sure in lines] == pytest.approx(expected, abs=1e-4)


def test_further_pages_are_not_passed_over_in_silence(
    learned, reader_and_pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = (picture.copy() for picture in learned.pictures[:3])
    first.save(tmp_path / "scan.tiff", save_all=True, append_images=others)
    first.save(tmp_path / "one.tiff")
    assert main(["--student", str(reader_and_pictures[0]), str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert [line.split("\t")[1] for line in printed.out.splitlines()] == [learned.words[0]] * 2
    assert printed.err.endswith(f"several pages or frames the first is read: {tmp_path / 'scan.tiff'}\n")


def test_names_of_files_need_not_be_utf8(learned, reader_and_pictures, tmp_path: Path, monkeypatch) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/stra\xdfe.png")
    learned.pictures[0].save(tmp_path / "word.png")
    os.rename(tmp_path / "word.png", name)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert main(["--student", str(reader_and_pictures[0]), name]) == 0
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue().startswith(os.fsencode(name) + b"\t" + learned.words[0].encode())


def test_json_and_onnx_say_the_same(
    learned, reader_and_pictures, onnx_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, pictures = reader_and_pictures
    files = [str(pictures / name) for name in ("03.png", "01.png")]
    answers = []
    for source in (student, onnx_file):
        assert main(["--student", str(source), "--json", *files]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert [row["path"] for row in answers[0]] == files
    assert [row["word"] for row in answers[0]] == [learned.words[3], learned.words[1]]
    for row, other in zip(*answers, strict=True):
        assert (row["path"], row["word"]) == (other["path"], other["word"])
        assert row["confidence"] == pytest.approx(other["confidence"], abs=1e-4)


def test_each_character_has_its_confidence_and_for_ctc_its_place(
    learned, reader_and_pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, pictures = reader_and_pictures
    picture = Image.new("RGB", (260, 48), "white")
    font = ImageFont.load_default(36)
    ImageDraw.Draw(picture).text((6, 2), "HARBOUR", "black", font)
    picture.save(tmp_path / "word.png")
    for source, file in ((student, pictures / "05.png"), ("tiny-free", tmp_path / "word.png")):
        assert main(["--student", str(source), "--json", str(file)]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert "".join(one["character"] for one in row["characters"]) == row["word"]
        assert all(0 < one["confidence"] <= 1 for one in row["characters"])
        places = [(one["start"], one["end"]) for one in row["characters"]]
        assert all(place == (None, None) for place in places) == (source == student)
    assert row["word"] == "harbour"
    edges = [6 + font.getlength("HARBOUR"[:count]) for count in range(8)]
    for (start, end), left, right in zip(places, edges[:-1], edges[1:], strict=True):
        assert left - 15 <= (start + end) / 2 * 260 <= right + 15


def test_only_what_is_allowed_is_read(
    learned, reader_and_pictures, onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, pictures = reader_and_pictures
    (tmp_path / "digits.txt").write_text("0123456789\n")
    answers = []
    for source in (student, onnx_file):
        for allow in ("0-9", str(tmp_path / "digits.txt")):
            assert main(["--student", str(source), "--allow", allow, str(pictures)]) == 0
            answers.append([line.split("\t")[1] for line in capsys.readouterr().out.splitlines()])
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert set("".join(answers[0])) <= set("0123456789")
    assert (answers[0][0], answers[0][9]) == (learned.words[0], learned.words[9]), "digits alone are read as before"
    assert answers[0] == [reading.text for reading in learned.student.read(learned.pictures, allow="0-9")]
    assert main(["--student", str(student), "--allow", "0-9A-D", str(pictures)]) == 0
    printed = capsys.readouterr()
    assert [line.split("\t")[1] for line in printed.out.splitlines()] == learned.words
    assert printed.err == "--allow: the reader's alphabet has lower case only; ABCD are read as abcd\n"
    assert "the allow-list has 'xyz', outside" in refused(
        capsys, "--student", str(student), "--allow", "0-9x-z", str(pictures)
    )


def test_a_reader_of_a_plugin_is_read_and_exported(
    learned, reader_and_pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = reader_and_pictures[1]
    plugin = tmp_path / "my_named_reader.py"
    plugin.write_text(
        "import symdistill\n"
        "from students.student import Student\n\n\n"
        "@symdistill.register_reader('mine')\n"
        "class Mine(Student):\n"
        "    FORMAT = 'mine'\n"
    )
    folder = tmp_path / "stored"
    learned.student.save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"symdistill-student"', '"mine"'))
    words = ["--student", str(folder), str(pictures)]
    assert "mine" in refused(capsys, *words)
    assert main([*words, "--plugin", str(plugin)]) == 0
    assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == learned.words
    out = tmp_path / "out"
    assert export(["--student", str(folder), "--out", str(out), "--plugin", str(plugin)]) == 0
    assert json.loads((out / "config.json").read_text())["format"] == "mine"


def test_how_a_reader_reads_may_be_chosen(
    learned, reader_and_pictures, onnx_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    parseq = Parseq(ParseqConfig(charset="0123456789abcd", max_length=5, patch=(16, 32), width=32, depth=1, heads=2,
                                 decoder_heads=2, refine_iters=0)).eval()  # fmt: skip
    with torch.no_grad():
        for weight in parseq.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    parseq.save_pretrained(tmp_path)
    pictures = str(reader_and_pictures[1])
    for options, chosen in (
        ([], ("ar", 0)), (["--refine-iters", "2"], ("ar", 2)), (["--nar"], ("nar", 0)),
    ):  # fmt: skip
        assert main(["--student", str(tmp_path), *options, pictures]) == 0
        parseq.choose_decoding(*chosen)
        expected = [f"{reading.text}\t{reading.confidence:.4f}" for reading in parseq.read(learned.pictures)]
        assert [line.partition("\t")[2] for line in capsys.readouterr().out.splitlines()] == expected
    for student in (reader_and_pictures[0], onnx_file):
        assert "can decode in another way" in refused(capsys, "--student", str(student), "--nar", pictures)
    assert "--refine-iters: -1 won't do" in refused(capsys, "--refine-iters", "-1", pictures)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run the command, expect a user's mistake, give its one line."""
    assert main(list(words)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("error: ")
    return printed.err


def test_a_truncated_picture_is_named_before_anything_is_printed(
    reader_and_pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, pictures = reader_and_pictures
    broken = tmp_path / "broken.png"
    broken.write_bytes((pictures / "00.png").read_bytes()[:120])
    words = ["--student", str(student), "--batch", "1", str(pictures / "00.png"), str(broken)]
    assert str(broken) in refused(capsys, *words)


def test_a_drawn_word_is_read_from_a_picture_of_any_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped student reads the same word: 16 bits, transparency, EXIF, palettes, animations, rare formats."""
    font = ImageFont.load_default(28)
    left, top, right, bottom = map(int, font.getbbox("harbour"))
    grey = Image.new("L", (right - left + 16, bottom - top + 12), 240)
    ImageDraw.Draw(grey).text((8 - left, 6 - top), "harbour", 20, font)
    levels = np.asarray(grey)
    for name, wide in {
        "u16.png": levels.astype(np.uint16) * 257, "u16.tif": levels.astype(np.uint16) * 257,
        "u12.png": levels.astype(np.uint16) * 16, "i32.tif": levels.astype(np.int32) * 70_000,
        "f32.tif": levels / np.float32(255),
    }.items():  # fmt: skip
        Image.fromarray(wide).save(tmp_path / name)
    for level in (10, 250):
        ink = Image.new("RGBA", grey.size, (level, level, level, 255))
        ink.putalpha(ImageOps.invert(grey))
        ink.save(tmp_path / f"ink{level}.png")
        ink.convert("LA").save(tmp_path / f"ink{level}-la.png")
        ink.quantize(16).save(tmp_path / f"ink{level}-p.png")
        ink.save(tmp_path / f"ink{level}.webp", lossless=True)
    turned = {3: grey.rotate(180), 6: grey.rotate(90, expand=True), 8: grey.rotate(-90, expand=True)}
    for orientation, stored in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for ending in ("jpg", "png", "webp", "tif"):
            stored.convert("RGB").save(tmp_path / f"exif{orientation}.{ending}", exif=exif)
    for ending in ("bmp", "gif", "jfif", "jpe", "dib", "qoi", "jp2", "dds", "ppm"):
        grey.convert("RGB").save(tmp_path / f"kind.{ending}")
    other = Image.new("RGB", grey.size, "white")
    for ending in ("gif", "apng", "webp", "tiff"):
        grey.convert("RGB").save(tmp_path / f"many.{ending}", save_all=True, append_images=[other])
    grey.convert("CMYK").save(tmp_path / "cmyk.jpg")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "gone.png").symlink_to("nowhere")
    assert main([str(tmp_path)]) == 0
    printed, errors = capsys.readouterr()
    words = dict(line.split("\t")[:2] for line in printed.splitlines())
    assert len(words) == 39
    assert {Path(path).name: word for path, word in words.items() if word != "harbour"} == {}
    several = ", ".join(str(tmp_path / f"many.{ending}") for ending in ("apng", "gif", "tiff", "webp"))
    assert errors == (
        f"left out, no pictures by their names: {tmp_path / 'gone.png'}, {tmp_path / 'notes.txt'}\n"
        f"of pictures with several pages or frames the first is read: {several}\n"
    )


def test_mistakes_are_one_line(reader_and_pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student, pictures = reader_and_pictures
    picture = str(pictures / "00.png")
    assert "none.png" in refused(capsys, "--student", str(student), str(tmp_path / "none.png"))
    assert "no pictures" in refused(capsys, "--student", str(student), str(tmp_path))
    assert "did you mean tiny" in refused(capsys, "--student", "tinny", picture)
    assert "--batch" in refused(capsys, "--student", str(student), "--batch", "0", picture)
    assert "is no ONNX" in refused(capsys, "--student", picture, picture)
    assert "download it first" in refused(capsys, "--student", str(student), "https://nowhere/a.png")
    assert "an empty argument; perhaps a variable isn't set" in refused(capsys, "--student", str(student), "")
    assert "an empty argument for --language-model;" in refused(capsys, "--language-model", "", picture)
    assert "an empty argument for --language-model;" in refused(capsys, "--language-model=", picture)
    unset = refused(capsys, "--student", "tiny-free", "--language-model", "european+", picture)
    assert "'european+' has an empty name in it" in unset


def test_a_name_that_would_break_the_lines_needs_json(
    reader_and_pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, pictures = reader_and_pictures
    for name in ("a\tb.png", "a\nb.png"):
        shutil.copy(pictures / "00.png", tmp_path / name)
        assert "add --json" in refused(capsys, "--student", str(student), str(tmp_path / name))
        assert main(["--student", str(student), "--json", str(tmp_path / name)]) == 0
        assert json.loads(capsys.readouterr().out)[0]["path"] == str(tmp_path / name)


def test_a_language_model_for_reading(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = Image.new("RGB", (220, 40), "white")
    ImageDraw.Draw(picture).text((10, 4), "Illinois", fill="black", font=ImageFont.load_default(28))
    path = str(tmp_path / "word.png")
    picture.filter(ImageFilter.GaussianBlur(1.5)).save(path)
    (tmp_path / "words.txt").write_text("Illinois\t3\nOhio\n", encoding="utf-8")
    read = []
    for options in ([], ["--language-model", "none"], ["--language-model", str(tmp_path / "words.txt")]):
        assert main(["--student", "tiny", *options, path]) == 0
        read.append(capsys.readouterr().out.split("\t")[1].lower())
    assert read[0] == read[2] == "illinois", "the shipped reader has a language model"
    assert read[1] != "illinois"
    assert main(["--student", "tiny", "--language-model", "no-such", path]) == 2
    assert "no-such: can't be read as a language model" in capsys.readouterr().err


def test_a_terminal_without_the_letters_gets_question_marks(reader_and_pictures, tmp_path: Path) -> None:
    student, pictures = reader_and_pictures
    shutil.copy(pictures / "00.png", tmp_path / "é.png")
    done = subprocess.run(
        [sys.executable, "-m", "distill", "read", "--student", str(student), str(tmp_path / "é.png")], text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "?.png\t" in done.stdout


def test_what_is_damaged_has_no_pages(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), "white")])
    whole = (tmp_path / "a.gif").read_bytes()
    assert has_pages(tmp_path / "a.gif")
    for place in range(0, len(whole), 3):
        (tmp_path / "a.gif").write_bytes(whole[:place] + bytes([255 - whole[place]]) + whole[place + 1 :])
        has_pages(tmp_path / "a.gif")
    os.mkfifo(tmp_path / "pipe.gif")
    assert not has_pages(tmp_path / "pipe.gif")


def test_names_that_are_too_long_are_one_line(
    reader_and_pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student, pictures = reader_and_pictures
    picture, long = str(pictures / "00.png"), "n" * 300
    assert "no such file" in refused(capsys, "--student", str(student), long)
    assert long in refused(capsys, "--student", long, picture)
    assert "can't be read" in refused(capsys, "--student", "tiny", "--language-model", long, picture)
