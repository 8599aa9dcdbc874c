"""Greedy decoding: the whole reader against its encoder alone, and milliseconds a word."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from distill.benchmarking.measuring import Row, Setup, interleaved, ratios, row
from students.charset import Charset
from students.sizes import SIZES
from students.student import Student

CHARACTERS = (5, 12, 26)
"""Positions that are decoded; the end counts as one."""


def decode_over_encoder(setup: Setup) -> Iterator[Row]:
    """Time of encoder and decoder over that of the encoder alone."""
    for size, batch, dtype, seconds in _measured(setup):
        for characters in CHARACTERS:
            case = {"size": size, "batch": batch, "characters": characters, "decoder_dtype": dtype}
            yield row("decode_over_encoder", case, ratios(seconds[str(characters)], seconds["encoder"]), "x")


def decoding_ms(setup: Setup) -> Iterator[Row]:
    """Milliseconds a word: of the encoder, and of encoder and decoder."""
    for size, batch, dtype, seconds in _measured(setup):
        for part, values in seconds.items():
            case: dict[str, object] = {"size": size, "batch": batch, "decoder_dtype": dtype}
            case |= {"part": "encoder"} if part == "encoder" else {"part": "whole", "characters": int(part)}
            yield row("decoding_ms", case, [1000 * value / batch for value in values], "ms")


def _measured(setup: Setup) -> Iterator[tuple[str, int, str, dict[str, list[float]]]]:
    """Go through sizes and batches: size, batch, dtype of the decoder's weights, seconds of each side."""
    for size in ("tiny",) if setup.quick else ("paper", "tiny"):
        student = build(size).to(setup.device)
        for batch in setup.batches(1, 8, 32, 64):
            images = torch.randn(batch, 3, *student.image_size, device=setup.device)
            # A length that is asked for is decoded to its end, whatever the random weights read.
            whole = {str(characters): partial(student, images, characters - 1) for characters in CHARACTERS}
            sides = {"encoder": partial(student.encode, images), **whole}
            with torch.inference_mode(), setup.autocast():
                yield size, batch, "float32", interleaved(sides, setup)


def build(size: str) -> Student:
    """Build a student of a size with weights at random, which read at the same speed as trained ones."""
    torch.manual_seed(0)
    return Student(SIZES[size](Charset.load("36"))).eval()
