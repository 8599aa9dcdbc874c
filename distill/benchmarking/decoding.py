"""Time decoding: the whole reader against its encoder, and milliseconds a word of each kind of student and of ONNX."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from distill.benchmarking.measuring import Row, Setup, interleaved, ratios, row
from distill.deployment.comparison_words import draw_words
from distill.deployment.onnx_reader import OnnxReader
from students.charset import Charset
from students.ctc import learner
from students.extras import check_extra
from students.picture_reader import PictureReader
from students.pretrained import shipped
from students.reading import Reader
from students.student import SIZES, Student, StudentDecoding

CHARACTERS = (5, 12, 26)
"""Positions that are decoded, the end among them."""
KINDS: dict[str, tuple[StudentDecoding, int]] = {
    "ar": ("ar", 0), "nar": ("nar", 0), "nar, refined": ("nar", 1), "ctc": ("ctc", 0),
}  # fmt: skip
"""Students by how they decode: decoding and refine_iters."""
ONNX_WORDS = 16
"""Drawn words that one measurement of an ONNX file reads."""
ENCODER = 0
"""Positions that are decoded by the encoder alone."""


def decode_over_encoder(setup: Setup) -> Iterator[Row]:
    """Measure the time of encoder and decoder over that of the encoder alone."""
    for size, batch, seconds in _measured(setup):
        for characters, values in seconds.items():
            if characters != ENCODER:
                case = {"size": size, "batch": batch, "characters": characters}
                yield row("decode_over_encoder", case, ratios(values, seconds[ENCODER]), "x")


def decoding_ms(setup: Setup) -> Iterator[Row]:
    """Measure milliseconds a word: of the encoder, and of encoder and decoder."""
    for size, batch, seconds in _measured(setup):
        for characters, values in seconds.items():
            part = {"part": "whole", "characters": characters} if characters else {"part": "encoder"}
            case: dict[str, object] = {"size": size, "batch": batch, **part}
            yield row("decoding_ms", case, [1000 * value / batch for value in values], "ms")


def kinds_ms(setup: Setup) -> Iterator[Row]:
    """Measure milliseconds a word of each kind of student on one encoder, from a normalised picture to text."""
    student = build("tiny")
    readers = {kind: learner(student, *how).eval().exported_model().to(setup.device) for kind, how in KINDS.items()}
    for batch in setup.batches(1, 32):
        images = torch.randn(batch, 3, *student.image_size, device=setup.device)
        # Only step-by-step decoding depends on the length of the words; the others take all positions or columns.
        lengths = {kind: CHARACTERS if kind == "ar" else (student.max_length + 1,) for kind in KINDS}
        cases = [(kind, length) for kind in KINDS for length in lengths[kind]]
        sides = {(kind, length): partial(_read, readers[kind], images, length) for kind, length in cases}
        with torch.inference_mode(), setup.autocast():
            seconds = interleaved(sides, setup)
        for kind, length in cases:
            case: dict[str, object] = {"size": "tiny", "batch": batch, "kind": kind}
            case |= {"characters": length if kind == "ar" else "any"}
            yield row("kinds_ms", case, [1000 * value / batch for value in seconds[kind, length]], "ms")


def onnx_ms(setup: Setup) -> Iterator[Row]:
    """Measure milliseconds a word, one at a time on one thread: picture to text, words of 1 to 14 characters."""
    check_extra("onnx", "table onnx_ms")
    from distill.deployment.onnx_export import export_onnx

    name = shipped()[0]
    student = Student.from_pretrained(name)
    pictures = draw_words(
        student.charset.characters, student.image_size, ONNX_WORDS, keep_aspect=student.keep_aspect
    ).split(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.onnx"
        export_onnx(student, path)
        exported = OnnxReader(path, threads=1)
    sides = {"onnx": partial(_read_all, exported, pictures), "pytorch": partial(_read_all, student, pictures)}
    for program, seconds in interleaved(sides, setup).items():
        case = {"student": name, "program": program, "precision": "float32", "batch": 1}
        yield row("onnx_ms", case, [1000 * value / ONNX_WORDS for value in seconds], "ms")


def _read(reader: Reader, images: Tensor, positions: int) -> None:
    reader.readings(reader(images, positions - 1))


def _read_all(reader: PictureReader, pictures: tuple[Tensor, ...]) -> None:
    for picture in pictures:
        reader.read_arrays(picture.numpy())


def _measured(setup: Setup) -> Iterator[tuple[str, int, dict[int, list[float]]]]:
    """Measure every size and batch: size, batch, seconds of each part."""
    for size in ("tiny",) if setup.quick else ("paper", "tiny"):
        student = build(size).to(setup.device)
        for batch in setup.batches(1, 8, 32, 64):
            images = torch.randn(batch, 3, *student.image_size, device=setup.device)
            # A length that is asked for is decoded to its end, whatever the random weights read.
            sides: dict[int, Callable[[], object]] = {ENCODER: partial(student.encode, images)}
            sides |= {length: partial(student, images, length - 1) for length in CHARACTERS}
            with torch.inference_mode(), setup.autocast():
                yield size, batch, interleaved(sides, setup)


def build(size: str) -> Student:
    """Build a student with random weights, which reads at the speed of trained ones."""
    torch.manual_seed(0)
    return Student(SIZES[size](Charset.load("36"))).eval()
