"""Does an exported student read as PyTorch does: logits and strings, over batch sizes and word lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distill.deployment.reader import OnnxReader
from students.student import Student

BATCHES = (1, 2, 3, 5, 8, 16, 33, 64)
"""Batch sizes that are gone through in turn; one, small odd ones, and some beside powers of two."""

TOLERANCE = 1e-3
"""Largest difference of a logit; float32 in another order of summation stays well below."""


@dataclass(frozen=True)
class Difference:
    """One word on which the two disagree."""

    index: int
    batch: int
    pytorch: str
    onnx: str
    largest: float
    """Largest difference of its logits up to the end token; infinity when the numbers of steps differ."""

    def __str__(self) -> str:
        return (
            f"word {self.index} in a batch of {self.batch}: PyTorch reads {self.pytorch!r}, ONNX {self.onnx!r}, "
            f"logits differ by up to {self.largest:.2g}"
        )


@dataclass(frozen=True)
class Parity:
    """What was compared, and where the two differ."""

    words: int
    batches: tuple[int, ...]
    """Batch sizes that were run."""
    lengths: dict[int, int]
    """Words by the length of what PyTorch read."""
    largest: float
    """Largest difference of a logit over all rows up to the end tokens."""
    differences: tuple[Difference, ...]

    @property
    def agrees(self) -> bool:
        """Whether there is no difference."""
        return not self.differences

    def __str__(self) -> str:
        lengths = f"{min(self.lengths)} to {max(self.lengths)}" if self.lengths else "none"
        verdict = "no difference" if self.agrees else f"{len(self.differences)} words differ"
        return (
            f"{self.words} words, batches of {', '.join(map(str, self.batches))}, readings of {lengths} characters: "
            f"{verdict}; logits within {self.largest:.2g}"
        )


def check_parity(
    student: Student, reader: OnnxReader, images: Tensor, batches: Sequence[int] = BATCHES, tolerance: float = TOLERANCE
) -> Parity:
    """Read the same pictures with both and compare.

    Every batch goes through both programs; logits are compared row by row up to and including each word's end token
    (what comes after it belongs to no reading), strings and the number of steps as they are.

    Args:
        student: the student in PyTorch, eval mode, on the CPU.
        reader: the same student as ONNX.
        images: normalised pictures (N, 3, H, W).
        batches: batch sizes, used in turn until the pictures are used up.
        tolerance: largest difference of a logit that is none.
    """
    differences: list[Difference] = []
    lengths: Counter[int] = Counter()
    sizes: list[int] = []
    largest = 0.0
    for start, size in cuts(len(images), batches):
        chunk = images[start : start + size]
        sizes.append(size)
        with torch.inference_mode():
            ours = student(chunk).float()
        theirs = torch.from_numpy(reader.logits(chunk.numpy()))
        read, seen = (student.charset.decode(logits.softmax(dim=-1)) for logits in (ours, theirs))
        for row, (expected, found) in enumerate(zip(read, seen, strict=True)):
            rows = len(expected.token_probs)
            gap = distance(ours[row, :rows], theirs[row, :rows]) if ours.shape == theirs.shape else float("inf")
            lengths[len(expected.text)] += 1
            largest = max(largest, gap)
            if not gap <= tolerance or expected.text != found.text:
                differences.append(Difference(start + row, size, expected.text, found.text, gap))
    return Parity(len(images), tuple(sorted(set(sizes))), dict(lengths), largest, tuple(differences))


def distance(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of two equal shapes; NaN counts as infinitely far."""
    gap = float(np.abs(ours.numpy() - theirs.numpy()).max())
    return gap if gap == gap else float("inf")


def cuts(count: int, batches: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut `count` pictures into batches of the given sizes in turn: start and size of each."""
    start = turn = 0
    while start < count:
        size = min(batches[turn % len(batches)], count - start)
        yield start, size
        start, turn = start + size, turn + 1
