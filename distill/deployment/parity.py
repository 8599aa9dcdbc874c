"""Compare an exported student with PyTorch: logits and words, on real crops or drawn words, over batch sizes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.deployment.onnx_reader import OnnxReader
from students.reading import Reader

BATCHES = (1, 2, 3, 5, 8, 16, 33, 64)
"""Batch sizes, used in turn: one, small odd ones, and some beside powers of two."""

TOLERANCE = 1e-3
"""Largest difference of a logit; float32 in another order of summation differs by far less."""

LOGIT_TIE = 1e-4
"""Two tokens whose logits are this near are equally good: which one is chosen depends on the order of summation."""


EXAMPLES = 3
"""Differences that are named."""


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
    """The result of a comparison."""

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
        ties = f"; {self.ties} ties" if self.ties else ""
        examples = "".join(f"; {difference}" for difference in self.differences[:EXAMPLES])
        return (
            f"{self.words} words, batches of {', '.join(map(str, self.batches))}, readings of {lengths} characters: "
            f"{verdict}; logits within {self.largest:.2g}{ties}{examples}"
        )


@dataclass(frozen=True)
class TargetParity:
    """The result of checking one file."""

    title: str
    """The program's name."""
    version: str | None
    """Version of the program that read; None where it isn't installed."""
    words: int
    largest: float
    """Largest difference of a score from PyTorch's."""
    misread: tuple[tuple[str, str], ...]
    """What the scores say and the program read, where these differ."""
    same_as_reader: int
    """Words read as the reader reads them itself."""

    @property
    def agrees(self) -> bool:
        """Whether scores equal PyTorch's, and the program reads them as they are meant."""
        return self.largest <= TOLERANCE and not self.misread

    def __str__(self) -> str:
        if self.version is None:
            by = f"{self.title} isn't installed: onnxruntime on pictures prepared as there"
        else:
            by = f"{self.title} {self.version}"
        examples = "".join(f"; {ours!r} read as {theirs!r}" for ours, theirs in self.misread[:EXAMPLES])
        verdict = "" if self.agrees else f"; {len(self.misread)} words not as their scores say{examples}"
        return (
            f"{by}: {self.same_as_reader} of {self.words} words read as by the reader itself; scores within "
            f"{self.largest:.2g} of PyTorch{verdict}"
        )


class ParityError(Exception):
    """An exported file computes other scores or reads other words than PyTorch, beyond what is allowed."""


def check_parity(student: Reader, reader: OnnxReader, images: Tensor, batches: Sequence[int] = BATCHES) -> Parity:
    """Read the same pictures with both and compare.

    Logits are compared position by position up to and including each word's end token (what comes after it belongs to
    no reading), those of a CTC reader in all columns, and so are the words.

    Args:
        student: the student in PyTorch, eval mode, on the CPU.
        reader: the same student as ONNX.
        images: normalised pictures (N, 3, H, W).
        batches: batch sizes, used in turn until the pictures are used up.
    """
    differences: list[Difference] = []
    lengths: Counter[int] = Counter()
    sizes: set[int] = set()
    largest, ties = 0.0, 0
    for start, size in split_batches(len(images), batches):
        chunk = images[start : start + size]
        sizes.add(size)
        with torch.inference_mode():
            expected = student(chunk).float()
        exported = torch.from_numpy(reader.logits(chunk.numpy()))
        pairs = zip(student.readings(expected), student.readings(exported), strict=True)
        for row, (ours, theirs) in enumerate(pairs):
            difference, tie = logit_difference(expected[row, : len(ours.token_probs)], exported[row])
            lengths[len(ours.text)] += 1
            largest = max(largest, difference)
            ties += tie
            if not difference <= TOLERANCE or (ours.text != theirs.text and not tie):
                differences.append(Difference(start + row, size, ours.text, theirs.text, difference))
    return Parity(len(images), tuple(sorted(sizes)), dict(lengths), largest, ties, tuple(differences))


def logit_difference(expected: Tensor, exported: Tensor) -> tuple[float, bool]:
    """Compare the logits (T, C + 1) of one reading with those of the other program.

    Returns:
        The largest difference up to the first position where the two choose another token (later ones follow from
        another context), infinity when there are too few positions or no numbers; and whether that choice was a tie.
    """
    steps = min(len(expected), len(exported))
    other = (expected[:steps].argmax(dim=-1) != exported[:steps].argmax(dim=-1)).nonzero().flatten().tolist()
    if not other and len(exported) < len(expected):
        return float("inf"), False
    compared = other[0] + 1 if other else steps
    difference = float((expected[:compared] - exported[:compared]).abs().max())
    best, second = expected[compared - 1].topk(2).values.tolist()
    return (float("inf") if math.isnan(difference) else difference), bool(other) and best - second <= LOGIT_TIE


def split_batches(count: int, batches: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Split `count` pictures into batches of the given sizes in turn: start and size of each."""
    start = turn = 0
    while start < count:
        size = min(batches[turn % len(batches)], count - start)
        yield start, size
        start, turn = start + size, turn + 1
