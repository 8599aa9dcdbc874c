"""Does an exported student read as PyTorch does: logits and strings, over batch sizes and word lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.deployment.reader import OnnxReader
from students.reading import Reader

BATCHES = (1, 2, 3, 5, 8, 16, 33, 64)
"""Batch sizes that are gone through in turn; one, small odd ones, and some beside powers of two."""

TOLERANCE = 1e-3
"""Largest difference of a logit; float32 in another order of summation stays well below."""

TIE = 1e-4
"""Two tokens whose logits are this near are equally good: which one is chosen depends on the order of summation."""


@dataclass(frozen=True)
class Difference:
    """One word on which the two disagree."""

    index: int
    batch: int
    pytorch: str
    onnx: str
    largest: float
    """Largest difference of its logits up to the end token, or up to the first other choice."""

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
    ties: int
    """Words where the two chose another token of equally good ones; such words are no difference."""
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
            f"{verdict}; logits within {self.largest:.2g}" + (f"; {self.ties} ties" if self.ties else "")
        )


def check_parity(
    student: Reader, reader: OnnxReader, images: Tensor, batches: Sequence[int] = BATCHES, tolerance: float = TOLERANCE
) -> Parity:
    """Read the same pictures with both and compare.

    Every batch goes through both programs; logits are compared row by row up to and including each word's end token
    (what comes after it belongs to no reading), those of columns all, and so are the strings.

    Args:
        student: the student in PyTorch, eval mode, on the CPU.
        reader: the same student as ONNX.
        images: normalised pictures (N, 3, H, W).
        batches: batch sizes, used in turn until the pictures are used up.
        tolerance: largest difference of a logit that is none.
    """
    differences: list[Difference] = []
    lengths: Counter[int] = Counter()
    sizes: set[int] = set()
    largest, ties = 0.0, 0
    for start, size in cuts(len(images), batches):
        chunk = images[start : start + size]
        sizes.add(size)
        with torch.inference_mode():
            ours = student(chunk).float()
        theirs = torch.from_numpy(reader.logits(chunk.numpy()))
        read, seen = student.readings(ours), student.readings(theirs)
        for row, (expected, found) in enumerate(zip(read, seen, strict=True)):
            gap, tie = distance(ours[row, : len(expected.token_probs)], theirs[row])
            lengths[len(expected.text)] += 1
            largest = max(largest, gap)
            ties += tie
            if not gap <= tolerance or (expected.text != found.text and not tie):
                differences.append(Difference(start + row, size, expected.text, found.text, gap))
    return Parity(len(images), tuple(sorted(sizes)), dict(lengths), largest, ties, tuple(differences))


def distance(ours: Tensor, theirs: Tensor) -> tuple[float, bool]:
    """Compare the logits (rows, C + 1) of one reading with those of the other program.

    Returns:
        The largest difference up to the first row where the two choose another token (later rows follow from another
        beginning), infinity when there are too few rows or no numbers; and whether that choice was a tie.
    """
    rows = min(len(ours), len(theirs))
    parting = (ours[:rows].argmax(dim=-1) != theirs[:rows].argmax(dim=-1)).nonzero().flatten().tolist()
    if not parting and len(theirs) < len(ours):
        return float("inf"), False
    compared = parting[0] + 1 if parting else rows
    gap = float((ours[:compared] - theirs[:compared]).abs().max())
    best, second = ours[compared - 1].topk(2).values.tolist()
    return (gap if gap == gap else float("inf")), bool(parting) and best - second <= TIE


def cuts(count: int, batches: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut `count` pictures into batches of the given sizes in turn: start and size of each."""
    start = turn = 0
    while start < count:
        size = min(batches[turn % len(batches)], count - start)
        yield start, size
        start, turn = start + size, turn + 1
