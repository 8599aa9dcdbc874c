"""Readers of other programs by name: those that are installed read, and those that aren't name what brings them."""

from __future__ import annotations

import ctypes.util
import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from students.errors import UserError
from teachers import tesseract
from teachers.peers import find_rapidocr, is_peer, open_peer

WORDS = ["Museum", "bakery", "OPEN"]


def draw_word(word: str) -> Image.Image:
    picture = Image.new("RGB", (30 + 20 * len(word), 48), "white")
    ImageDraw.Draw(picture).text((10, 4), word, fill="black", font=ImageFont.load_default(30))
    return picture


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rapidocr", True), ("tesseract", True), ("tesseract:deu+eng", True), ("folder/model.onnx", True),
        ("model.ONNX:preset=ppocr", True), ("tiny", False), ("rapidocr-mine", False), ("model.onnx.zip", False),
    ],
)  # fmt: skip
def test_names_of_readers_from_elsewhere(name: str, expected: bool) -> None:
    assert is_peer(name) == expected


def test_rapidocr_reads_by_name() -> None:
    pytest.importorskip("rapidocr", reason="rapidocr isn't installed")
    reader = open_peer("rapidocr", threads=1)
    readings = reader.read([draw_word(word) for word in WORDS])
    assert [reading.text for reading in readings] == WORDS
    assert min(reading.confidence for reading in readings) > 0.9
    assert (reader.name, reader.image_size) == ("rapidocr", (48, 320))
    assert 5e6 < (reader.parameters_count or 0) < 5.4e6, "PP-OCRv6 small has 5.3 million weights"
    assert len(reader.charset.characters) > 18_000
    assert reader.place("cpu", 1) is reader
    # A student's pictures have lost their aspect, and are read all the same.
    squeezed = np.stack([np.asarray(draw_word(word).resize((128, 32))) for word in WORDS]).transpose(0, 3, 1, 2)
    assert [reading.text for reading in reader.read_arrays(squeezed / np.float32(127.5) - 1)] == WORDS


def test_rapidocr_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(UserError, match=r'needs rapidocr; pip install "symdistill\[peers\]"'):
        find_rapidocr()


def test_tesseract_reads_by_name(capfd: pytest.CaptureFixture[str]) -> None:
    if ctypes.util.find_library("tesseract") is None:
        pytest.skip("Tesseract isn't installed")
    reader = open_peer("tesseract")
    assert [reading.text.lower() for reading in reader.read([draw_word(word) for word in WORDS], allow="a-zA-Z")] == [
        word.lower() for word in WORDS
    ]
    assert set(reader.read(draw_word("room 12"), allow="0-9").text) <= set("0123456789")
    assert len(reader.read(Image.new("RGB", (60, 30), "white")).text) <= 2
    assert (reader.name, reader.parameters_count) == ("tesseract", None)
    assert capfd.readouterr() == ("", ""), "what the library says of an empty picture is held back"


def test_tesseract_reads_in_several_threads() -> None:
    if ctypes.util.find_library("tesseract") is None:
        pytest.skip("Tesseract isn't installed")
    reader = open_peer("tesseract")
    pictures = [draw_word(word) for word in WORDS] * 5
    expected = [reading.text for reading in reader.read(pictures)]
    with ThreadPoolExecutor(4) as threads:
        for readings in threads.map(lambda _: reader.read(pictures), range(4)):
            assert [reading.text for reading in readings] == expected


def test_tesseract_starts_no_threads() -> None:
    if ctypes.util.find_library("tesseract") is None:
        pytest.skip("Tesseract isn't installed")
    reader = open_peer("tesseract")
    before = torch.get_num_threads()
    threads = len(list(Path("/proc/self/task").iterdir()))
    reader.read([draw_word(word) for word in WORDS])
    assert len(list(Path("/proc/self/task").iterdir())) == threads
    assert torch.get_num_threads() == before


def test_tesseract_without_a_language(capfd: pytest.CaptureFixture[str]) -> None:
    if ctypes.util.find_library("tesseract") is None:
        pytest.skip("Tesseract isn't installed")
    with pytest.raises(UserError, match="no data for 'xyz'; install it"):
        open_peer("tesseract:xyz")
    assert capfd.readouterr().err == "", "the library's own lines are held back"


def test_tesseract_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    tesseract.load_library.cache_clear()
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(UserError, match="needs Tesseract's library, which isn't here; install Tesseract 4 or later"):
        open_peer("tesseract")
    tesseract.load_library.cache_clear()


@pytest.mark.parametrize("name", ["rapidocr:height=32", "paddle"])
def test_names_that_stand_for_nothing(name: str) -> None:
    with pytest.raises(UserError, match=name):
        open_peer(name)


def test_rapidocr_of_another_release_has_one_recogniser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    spec = importlib.util.spec_from_file_location("rapidocr", tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match=r"has no PP-OCRv6_rec_small.onnx \(none\)"):
        find_rapidocr()
    (tmp_path / "models" / "PP-OCRv7_rec_tiny.onnx").touch()
    assert find_rapidocr().name == "PP-OCRv7_rec_tiny.onnx"
    (tmp_path / "models" / "PP-OCRv7_rec_small.onnx").touch()
    with pytest.raises(UserError, match=r"PP-OCRv7_rec_small.onnx, PP-OCRv7_rec_tiny.onnx"):
        find_rapidocr()
