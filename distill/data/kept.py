"""Which records an alphabet keeps: the label rules of METHOD 1.6 over many labels at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.data.records import Records
from students.charset import Charset

CHUNK = 1 << 16
"""Labels that are judged at a time."""
MISSING = b"\xff"
"""Stands for a label that is not there: no UTF-8, so it is read as none."""


class Labels(NamedTuple):
    """N labels as they are stored, one after the other."""

    text: bytes
    """All of them."""
    ends: np.ndarray
    """(N,) uint64: where in `text` each ends."""


class Positions:
    """Positions in a set (N,), in memory or in a file that each process maps when it first looks; pickled as a path.

    Args:
        source: the array, or the file that holds it (.npy).
    """

    def __init__(self, source: np.ndarray | Path) -> None:
        self._source = source
        self._mapped: np.ndarray | None = None
        self._length = len(self.array)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> int:
        """Give one position."""
        return int(self.array[number])

    @property
    def array(self) -> np.ndarray:
        """All positions, ascending; not to be written to."""
        if isinstance(self._source, np.ndarray):
            return self._source
        if self._mapped is None:
            self._mapped = np.load(self._source, mmap_mode="r", allow_pickle=False)
        return self._mapped


@dataclass(frozen=True)
class Kept:
    """What is left of a set."""

    positions: Positions
    """Where the records stand that are kept."""
    dropped: Counter[str]
    """How many are not, by reason."""


def judge(chunks: Iterable[Labels], charset: Charset, max_length: int) -> Kept:
    """Apply the label rules to the labels of a set, in order.

    Labels of printable ASCII are judged by look-ups, all others and possible marks for illegible words one by one:
    `Charset.clean` says the same of each.
    """
    codes = range(256)
    plain = np.array([32 < code < 127 for code in codes])
    writable = np.array([32 < code < 127 and charset.adapt(chr(code)) != "" for code in codes])
    marks = np.array([chr(code) in "#*." for code in codes])
    found, dropped, before = [], Counter[str](), 0
    for labels in chunks:
        letters = np.frombuffer(labels.text, np.uint8)
        starts = np.concatenate([labels.ends[:1] * 0, labels.ends[:-1]])
        keep = _any(writable[letters], starts, labels.ends)
        long = labels.ends - starts > max_length
        odd = _any(~plain[letters], starts, labels.ends)
        odd |= _any(marks[letters], starts, labels.ends) & ~_any((writable & ~marks)[letters], starts, labels.ends)
        dropped["too long"] += int((long & ~odd).sum())
        dropped["empty"] += int((~keep & ~long & ~odd).sum())
        keep &= ~long
        for number in np.flatnonzero(odd).tolist():
            reason = _reason(labels.text[int(starts[number]) : int(labels.ends[number])], charset, max_length)
            keep[number] = reason is None
            dropped[reason or ""] += 1
        found.append(before + np.flatnonzero(keep))
        before += len(labels.ends)
    positions = np.concatenate([np.empty(0, np.int64), *found]).astype(np.uint32 if before < 2**32 else np.uint64)
    return Kept(Positions(positions), Counter({reason: count for reason, count in dropped.items() if reason and count}))


def chunks(records: Records) -> Iterator[Labels]:
    """Walk through the labels of a set."""
    # What UTF-8 can't write of a label is nothing that ASCII could: the rules drop it too.
    stored = (MISSING if label is None else label.encode("utf-8", "ignore") for _, label in records.labels())
    while taken := list(islice(stored, CHUNK)):
        yield Labels(b"".join(taken), np.cumsum([len(label) for label in taken], dtype=np.uint64))


def _any(marks: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Tell for each label (N,) whether one of its bytes is marked."""
    counts = np.concatenate([[0], np.cumsum(marks)])
    return counts[ends] > counts[starts]


def _reason(stored: bytes, charset: Charset, max_length: int) -> str | None:
    try:
        return charset.drop_reason(stored.decode("utf-8"), max_length)
    except UnicodeDecodeError:
        return "no label"
