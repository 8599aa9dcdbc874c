from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from students.charset import Charset
from students.ctc import CtcReader
from students.decoding import Reading
from students.picture_reader import PictureReader
from students.reading import Reader
from students.student import tiny
from students.turning import TALL, read_turned
from teachers.registry import load_reader


class Told(PictureReader):
    """Reads what a table says for a picture's first pixel."""

    image_size = (4, 8)
    turn_tall = True

    def __init__(self, table: dict[int, tuple[str, float]]) -> None:
        self.table, self.seen = table, 0

    def read_arrays(self, images: np.ndarray, allowed: np.ndarray | None = None) -> list[Reading]:
        self.seen += len(images)
        first = np.rint((images[:, 0, 0, 0] * 0.5 + 0.5) * 255).astype(int).tolist()
        return [Reading(*self.table[value], ()) for value in first]


def cornered(width: int, height: int) -> Image.Image:
    """Draw a picture whose corners are 10, 20, 30, 40 clockwise from the top left, in large areas."""
    corners = np.array([[10, 20], [40, 30]], np.uint8)
    pixels = corners.repeat(height // 2, axis=0).repeat(width // 2, axis=1)
    return Image.fromarray(pixels).convert("RGB")


# Turned counter-clockwise by 90 degrees the top right corner comes first, by 270 the bottom left one.
@pytest.mark.parametrize(
    ("table", "text", "turned"),
    [
        ({10: ("up", 0.5), 20: ("down", 0.9), 40: ("other", 0.1)}, "down", 90),
        ({10: ("up", 0.5), 20: ("down", 0.1), 40: ("other", 0.9)}, "other", 270),
        ({10: ("up", 0.9), 20: ("down", 0.8), 40: ("other", 0.7)}, "up", 0),
        ({10: ("up", 0.5), 20: ("d", 0.9), 40: ("", 0.9)}, "up", 0),
    ],
)
def test_the_surest_of_three_readings_counts(table: dict[int, tuple[str, float]], text: str, turned: int) -> None:
    reading = Told(table).read(cornered(40, 80))
    assert (reading.text, reading.turned) == (text, turned)


def test_only_tall_pictures_cost_more() -> None:
    reader = Told({10: ("up", 0.5), 20: ("down", 0.9), 40: ("other", 0.1)})
    sizes = [(40, 40), (40, 58), (40, 60), (80, 40)]
    readings = reader.read([cornered(*size) for size in sizes])
    assert [reading.turned for reading in readings] == [90 if h >= TALL * w else 0 for w, h in sizes]
    assert reader.seen == len(sizes) + 2


def test_results_that_hold_a_reading() -> None:
    def read(pictures: Sequence[Image.Image]) -> list[tuple[Reading, int]]:
        return [(Reading("ab", 0.1 * number, ()), number) for number, _ in enumerate(pictures)]

    found = read_turned(read, [cornered(40, 80), cornered(80, 40)], lambda pair: pair[0])
    assert [(number, turn) for (_, number), turn in found] == [(3, 270), (1, 0)]


def test_a_shipped_reader_reads_a_word_that_runs_up_or_down() -> None:
    reader = load_reader("tiny-free")
    word = Image.new("RGB", (190, 40), "white")
    ImageDraw.Draw(word).text((10, 2), "HARBOUR", fill="black", font=ImageFont.load_default(32))
    assert reader.turn_tall
    assert reader.read(word).text == "harbour"
    up, down = word.transpose(Image.Transpose.ROTATE_90), word.transpose(Image.Transpose.ROTATE_270)
    assert [(one.text, one.turned) for one in reader.read([up, down])] == [("harbour", 270), ("harbour", 90)]
    reader.config = dataclasses.replace(reader.config, turn_tall=False)
    assert all(reading.text != "harbour" for reading in reader.read([up, down]))


def test_it_is_stored(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(tiny(Charset("abc"), 5), decoding="ctc", turn_tall=True)
    CtcReader(config).save_pretrained(str(tmp_path))
    loaded: Reader = load_reader(str(tmp_path))
    assert loaded.turn_tall
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    del stored["turn_tall"]
    (tmp_path / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    assert not load_reader(str(tmp_path)).turn_tall, "readers of before read as before"
