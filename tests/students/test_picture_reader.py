"""Reading pictures of every kind, one or many, and no more of them at a time than a batch."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from students.charset import Charset
from students.decoding import Reading
from students.errors import UserError
from students.language_model import LanguageModel, WordList
from students.picture_reader import PictureReader

GREYS = (0, 51, 102, 153, 204, 255)


class GreyReader(PictureReader):
    """Reads one letter a picture, by its mean grey, and keeps the sizes of its batches."""

    charset, max_length, image_size = Charset("abcdef"), 1, (8, 16)  # type: ignore[assignment]

    def __init__(self) -> None:
        self.batches: list[int] = []

    def read_arrays(self, images: np.ndarray, allowed: np.ndarray | None = None) -> list[Reading]:
        assert images.shape[1:] == (3, 8, 16)
        assert images.dtype == np.float32
        self.batches.append(len(images))
        levels = (images.mean(axis=(1, 2, 3)) + 1) * 2.5
        return [Reading("abcdef"[round(float(level))], 1.0, (1.0,)) for level in levels]


def grey(number: int) -> Image.Image:
    return Image.new("L", (20, 10), GREYS[number])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    grey(2).save(tmp_path / "word.png")
    return tmp_path / "word.png"


def test_one_picture_of_any_kind_is_one_reading(path: Path) -> None:
    pixels = np.asarray(grey(2))
    with_alpha = np.dstack([pixels] * 3 + [np.full_like(pixels, 255)])
    data = path.read_bytes()
    encoded = (data, bytearray(data), memoryview(data), io.BytesIO(data))
    for one in (path, str(path), *encoded, grey(2), pixels, np.dstack([pixels] * 3), with_alpha):
        reading = GreyReader().read(one)
        assert isinstance(reading, Reading)
        assert reading.text == "c"
        if isinstance(one, io.BytesIO):
            one.seek(0)
        assert [each.text for each in GreyReader().read_iter(one)] == ["c"]


@pytest.mark.parametrize("one", [None, [None], [3.5]])
def test_what_is_no_picture_is_the_users_mistake(one: object) -> None:
    with pytest.raises(UserError, match="is no picture; give a path, bytes"):
        GreyReader().read(one)  # type: ignore[call-overload]


def test_many_pictures_are_a_list_in_their_order(path: Path) -> None:
    reader = GreyReader()
    many = [grey(0), str(path), np.asarray(grey(5)), path, grey(1)]
    for pictures in (many, tuple(many), iter(many)):
        assert [reading.text for reading in reader.read(pictures, batch_size=2)] == list("acfcb")
    assert reader.batches == [2, 2, 1] * 3
    stack = np.stack([np.asarray(grey(number).convert("RGB")) for number in (3, 0)])
    assert [reading.text for reading in reader.read(stack)] == ["d", "a"]
    assert reader.read([]) == []


def test_pictures_are_taken_as_they_are_needed() -> None:
    taken = itertools.count()

    def endless() -> Iterator[Image.Image]:
        for number in taken:
            yield grey(number % 6)

    readings = GreyReader().read_iter(endless(), batch_size=4)
    assert next(taken) == 0, "nothing is taken before the first reading is asked for"
    assert "".join(next(readings).text for _ in range(4)) == "bcde"
    assert next(taken) == 5, "one batch was taken"


def test_pictures_before_a_broken_one_are_read(tmp_path: Path) -> None:
    readings = GreyReader().read_iter([grey(0), grey(1), tmp_path / "none.png"], batch_size=2)
    assert next(readings).text + next(readings).text == "ab"
    with pytest.raises(UserError, match=r"none\.png: no such file"):
        next(readings)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_a_batch_of_none_is_refused(batch_size: int) -> None:
    with pytest.raises(UserError, match="1 or more"):
        GreyReader().read([grey(0)], batch_size)


def test_a_number_and_a_folder_are_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="5 is no picture"):
        GreyReader().read(5)  # type: ignore[call-overload]
    with pytest.raises(UserError, match=r"a folder\); give the files in it"):
        GreyReader().read(tmp_path)


def test_a_string_is_a_path() -> None:
    with pytest.raises(UserError, match=r"word\.png: no such file"):
        GreyReader().read("word.png")


def test_a_broken_picture_without_a_name_is_counted() -> None:
    with pytest.raises(UserError, match="picture 3: no format that Pillow knows"):
        GreyReader().read([grey(0), grey(1), b"abc"], batch_size=2)
    with pytest.raises(UserError, match="opened as text is no picture; open it in binary mode"):
        GreyReader().read(io.StringIO("words"))  # type: ignore[call-overload]
    assert GreyReader().read([grey(0)], np.int64(8))[0].text == "a"  # type: ignore[call-overload]


def test_only_what_reads_by_ctc_takes_a_language_model() -> None:
    reader = GreyReader()
    with pytest.raises(UserError, match="is no language model"):
        reader.language_model = "european"  # type: ignore[assignment]
    with pytest.raises(UserError, match="a language model is for reading by CTC"):
        reader.language_model = LanguageModel([WordList("own", {"a": 1})])
    reader.language_model = None
    assert reader.place("cpu", 1) is reader
