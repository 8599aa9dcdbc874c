"""Decoding: the whole reader against its encoder alone, and milliseconds a word, of every kind of student."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from distill.benchmarking.measuring import Row, Setup, interleaved, ratios, row
from students.charset import Charset
from students.ctc import learner
from students.projections import DecoderDtype
from students.reading import Reader
from students.sizes import SIZES, StudentDecoding
from students.student import Student

CHARACTERS = (5, 12, 26)
"""Positions that are decoded; the end counts as one."""
KINDS: dict[str, tuple[StudentDecoding, int]] = {
    "ar": ("ar", 0), "nar": ("nar", 0), "nar, refined": ("nar", 1), "ctc": ("ctc", 0),
}  # fmt: skip
"""Students by how they read: decoding and refine_iters."""
Part = tuple[DecoderDtype, int]
"""Type of the decoder's weights and positions that are decoded; 0 is the encoder alone."""
ENCODER: Part = ("float32", 0)


def decode_over_encoder(setup: Setup) -> Iterator[Row]:
    """Time of encoder and decoder over that of the encoder alone."""
    for size, batch, seconds in _measured(setup):
        for (dtype, characters), values in seconds.items():
            if characters:
                case = {"size": size, "batch": batch, "characters": characters, "decoder_dtype": dtype}
                yield row("decode_over_encoder", case, ratios(values, seconds[ENCODER]), "x")


def decoding_ms(setup: Setup) -> Iterator[Row]:
    """Milliseconds a word: of the encoder, and of encoder and decoder."""
    for size, batch, seconds in _measured(setup):
        for (dtype, characters), values in seconds.items():
            case: dict[str, object] = {"size": size, "batch": batch}
            part = {"part": "whole", "characters": characters} if characters else {"part": "encoder"}
            yield row("decoding_ms", {**case, "decoder_dtype": dtype, **part}, [1000 * v / batch for v in values], "ms")


def kinds_ms(setup: Setup) -> Iterator[Row]:
    """Milliseconds a word of each kind of student on the same encoder, from a normalised picture to text."""
    student = build("tiny")
    readers = {kind: learner(student, *way).eval().exported_model().to(setup.device) for kind, way in KINDS.items()}
    for batch in setup.batches(1, 32):
        images = torch.randn(batch, 3, *student.image_size, device=setup.device)
        # Only greedy decoding depends on the length of the words; the others always take all positions or columns.
        lengths = {kind: CHARACTERS if kind == "ar" else (student.max_length + 1,) for kind in KINDS}
        cases = [(kind, length) for kind in KINDS for length in lengths[kind]]
        sides = {f"{kind} {length}": partial(_read, readers[kind], images, length) for kind, length in cases}
        with torch.inference_mode(), setup.autocast():
            seconds = interleaved(sides, setup)
        for kind, length in cases:
            case: dict[str, object] = {"size": "tiny", "batch": batch, "kind": kind}
            case |= {"characters": length if kind == "ar" else "any"}
            yield row("kinds_ms", case, [1000 * value / batch for value in seconds[f"{kind} {length}"]], "ms")


def _read(reader: Reader, images: Tensor, positions: int) -> None:
    reader.readings(reader(images, positions - 1))


def _measured(setup: Setup) -> Iterator[tuple[str, int, dict[Part, list[float]]]]:
    """Go through sizes and batches: size, batch, seconds of each part."""
    for size in ("tiny",) if setup.quick else ("paper", "tiny"):
        student = build(size).to(setup.device)
        readers: dict[DecoderDtype, Student] = {"float32": student, **_in_other_types(student)}
        for batch in setup.batches(1, 8, 32, 64):
            images = torch.randn(batch, 3, *student.image_size, device=setup.device)
            # A length that is asked for is decoded to its end, whatever the random weights read.
            sides: dict[Part, Callable[[], object]] = {ENCODER: partial(student.encode, images)}
            for dtype, reader in readers.items():
                sides |= {(dtype, length): partial(reader, images, length - 1) for length in CHARACTERS}
            with torch.inference_mode(), setup.autocast():
                yield size, batch, interleaved(sides, setup)


def _in_other_types(student: Student) -> dict[DecoderDtype, Student]:
    """Give copies whose decoders hold their weights in other types, which are for the CPU."""
    made = {dtype: copy.deepcopy(student) for dtype in get_args(DecoderDtype)[1:] if student.device.type == "cpu"}
    for dtype, reader in made.items():
        reader.choose_decoder_dtype(dtype)
    return made


def build(size: str) -> Student:
    """Build a student with weights at random, prepared as loaded ones are, which reads at the speed of trained ones."""
    torch.manual_seed(0)
    student = Student(SIZES[size](Charset.load("36"))).eval()
    student.prepare()
    return student
