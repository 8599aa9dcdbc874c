"""Exported students: milliseconds a word of the ONNX file on one thread, beside PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from distill.benchmarking.measuring import Row, Setup, interleaved, row
from distill.deployment.crops import draw_words
from distill.deployment.onnx_export import export_onnx
from distill.deployment.onnx_reader import OnnxReader
from students.picture_reader import PictureReader
from students.pretrained import shipped
from students.student import Student

WORDS = 16
"""Drawn words that one measurement reads."""


def onnx_ms(setup: Setup) -> Iterator[Row]:
    """Milliseconds a word, one at a time on one thread: normalised picture to text, words of 1 to 14 characters."""
    for name in shipped()[:1]:
        student = Student.from_pretrained(name)
        pictures = draw_words(student.charset.characters, student.image_size, WORDS).split(1)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "student.onnx"
            export_onnx(student, path)
            reader = OnnxReader(path, threads=1)
        arrays = [picture.numpy() for picture in pictures]
        sides = {"onnx": partial(read_all, reader, arrays), "pytorch": partial(read_all, student, arrays)}
        for program, seconds in interleaved(sides, setup).items():
            case = {"student": name, "program": program, "precision": "float32", "batch": 1}
            yield row("onnx_ms", case, [1000 * value / WORDS for value in seconds], "ms")


def read_all(reader: PictureReader, pictures: Sequence[np.ndarray]) -> None:
    """Read pictures one by one."""
    for picture in pictures:
        reader.read_arrays(picture)
