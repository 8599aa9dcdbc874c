"""Which records of a set an alphabet can be taught with: the label rules over many labels at a time, and their index.

The index of an LMDB lies in files that are written once and mapped by all processes.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from distill.data.lmdb_reader import LmdbRecords
from distill.data.progress import followed
from distill.data.records import Records, user_cache
from distill.locks import one_at_a_time
from students.charset import Charset, LabelVerdict
from students.decoding import ctc_columns_needed
from students.files import replacing

LOG = logging.getLogger(__name__)

INDEX = "labels.index"
"""Folder of the index, in the LMDB's own."""
MIN_RECORDS = 20_000
"""Records from which on an index is written: fewer labels are read in a moment."""
CHUNK = 1 << 16
"""Labels that the rules are applied to at a time."""
EXAMPLES = 3
"""Words that CTC can't spell which are named."""
NO_LABEL = b"\xff"
"""Stands for a label that is missing: no UTF-8, so it is read as none."""
_VERSION = 6
_TEXT, _ENDS, _POSITIONS, _STATE = "labels.bin", "ends.npy", "positions.npy", "state.json"
Notes = dict[str, Any]


class Labels(NamedTuple):
    """N labels as they are stored, one after the other."""

    text: bytes
    """All of them."""
    ends: np.ndarray
    """(N,) uint64: where in `text` each ends."""


class Positions:
    """Positions in a set (N,), in memory or in a file that each process maps on first use; pickled as a path.

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
        """Return one position."""
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
class Selection:
    """The records of a set that the label rules leave."""

    positions: Positions
    """Where they stand in the set."""
    dropped: Counter[str]
    """How many others there are, by reason."""
    folded: Counter[str] = field(default_factory=Counter)
    """Characters that were replaced or left out (`LabelVerdict.changed`), by the words left that had them."""
    too_long_for_ctc: int = 0
    """How many of the words left need more columns than there are, so that CTC can't spell them."""
    too_long_for_ctc_examples: tuple[str, ...] = ()
    """Some of them."""


def select_records(records: Records, charset: Charset, max_length: int, ctc_columns: int | None = None) -> Selection:
    """Apply the label rules (`Charset.examine`) to all labels of a set.

    An LMDB of many words is walked through once. From then on its labels, and the positions that are left for each
    alphabet and length, lie in files, which are written anew when the LMDB has changed. Other sets are read each time.

    Args:
        records: the set.
        charset: the alphabet.
        max_length: longest label in characters.
        ctc_columns: columns that CTC reads off, to count the words that need more; None counts none.
    """
    if beyond := records.count_beyond():
        LOG.warning("%s: %d records beyond num-samples (%d) are never read", records.path, beyond, len(records))
    if isinstance(records, LmdbRecords) and len(records) >= MIN_RECORDS:
        selection = _select_by_index(records, charset, max_length, ctc_columns)
        if selection is not None:
            return selection
    return apply_label_rules(read_labels(records), charset, max_length, ctc_columns)


def apply_label_rules(
    chunks: Iterable[Labels], charset: Charset, max_length: int,
    ctc_columns: int | None = None,
) -> Selection:  # fmt: skip
    """Apply the label rules to chunks of labels that follow each other; see `select_records`.

    Labels of printable ASCII are judged by look-ups, others and possible marks for illegible words one by one:
    `Charset.clean` gives the same for each.
    """
    codes = range(256)
    plain = np.array([32 < code < 127 for code in codes])
    writable = np.array([32 < code < 127 and charset.adapt(chr(code)) != "" for code in codes])
    lost = np.array([chr(code).isascii() and chr(code).isalnum() and not writable[code] for code in codes])
    marks = np.array([chr(code) in "#*" for code in codes])
    positions, dropped, folded, start = [], Counter[str](), Counter[str](), 0
    too_long: list[str] = []
    for labels in chunks:
        letters = np.frombuffer(labels.text, np.uint8)
        starts = np.concatenate([labels.ends[:1] * 0, labels.ends[:-1]])
        written = _count(writable[letters], starts, labels.ends)
        odd = _count(~plain[letters] | marks[letters], starts, labels.ends) > 0
        odd |= (written <= 1) & (_count(letters == ord("."), starts, labels.ends) > 0)
        long = labels.ends - starts > max_length
        dropped["too long"] += int((long & ~odd).sum())
        dropped["empty"] += int(((written == 0) & ~long & ~odd).sum())
        left = (written > 0) & ~long
        for number in np.flatnonzero(odd).tolist():
            verdict = _examine(_stored(labels, starts, number), charset, max_length)
            left[number] = verdict is not None and verdict.reason is None
            dropped["no label" if verdict is None else verdict.reason or ""] += 1
            if verdict is not None and verdict.reason is None:
                folded.update(verdict.changed)
        for code in np.flatnonzero(lost):
            had = left & ~odd & (_count(letters == code, starts, labels.ends) > 0)
            folded[chr(code)] += int(had.sum())
        if ctc_columns is not None:  # of N characters N - 1 can equal their neighbours
            candidates = left & (2 * (labels.ends - starts).astype(np.int64) - 1 > ctc_columns)
            for number in np.flatnonzero(candidates).tolist():
                verdict = _examine(_stored(labels, starts, number), charset, max_length)
                if verdict is not None and verdict.text and ctc_columns_needed(verdict.text) > ctc_columns:
                    too_long.append(verdict.text)
        positions.append(start + np.flatnonzero(left))
        start += len(labels.ends)
    array = np.concatenate([np.empty(0, np.int64), *positions]).astype(np.uint32 if start < 2**32 else np.uint64)
    reasons = Counter({reason: count for reason, count in dropped.items() if reason and count})
    return Selection(Positions(array), reasons, +folded, len(too_long), tuple(too_long[:EXAMPLES]))


def read_labels(records: Records) -> Iterator[Labels]:
    """Walk through the labels of a set, in chunks."""
    # What UTF-8 can't write of a label no alphabet has: the rules remove it too.
    stored = (NO_LABEL if label is None else label.encode("utf-8", "ignore") for _, label in records.labels())
    while taken := list(islice(stored, CHUNK)):
        yield Labels(b"".join(taken), np.cumsum([len(label) for label in taken], dtype=np.uint64))


def _count(marked: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Count the marked bytes of each label (N,)."""
    counts = np.concatenate([[0], np.cumsum(marked)])
    return counts[ends] - counts[starts]


def _stored(labels: Labels, starts: np.ndarray, number: int) -> bytes:
    return labels.text[int(starts[number]) : int(labels.ends[number])]


def _examine(stored: bytes, charset: Charset, max_length: int) -> LabelVerdict | None:
    try:
        return charset.examine(stored.decode("utf-8"), max_length)
    except UnicodeDecodeError:
        return None


def _select_by_index(
    records: LmdbRecords, charset: Charset, max_length: int, ctc_columns: int | None
) -> Selection | None:
    def write(folder: Path) -> Notes:
        stored = _open_part(records, "labels", lambda beside: _write_labels(records, beside))
        labels = read_labels(records) if stored is None else _read_stored(stored[0])
        selection = apply_label_rules(labels, charset, max_length, ctc_columns)
        np.save(folder / _POSITIONS, selection.positions.array)
        return {part.name: getattr(selection, part.name) for part in fields(selection) if part.name != "positions"}

    parts = [str(max_length), charset.characters, "" if ctc_columns is None else str(ctc_columns)]
    rules = hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
    part = _open_part(records, f"positions-{rules}", write)
    if part is None:
        return None
    notes = part[1]
    return Selection(
        Positions(part[0] / _POSITIONS), Counter(notes["dropped"]), Counter(notes["folded"]), notes["too_long_for_ctc"],
        tuple(notes["too_long_for_ctc_examples"]),
    )  # fmt: skip


def _open_part(records: LmdbRecords, name: str, write: Callable[[Path], Notes]) -> tuple[Path, Notes] | None:
    """Return the folder of one part of the index and its notes; written when none fits the LMDB as it is.

    It lies with the LMDB, or in the user's cache where that can't be written to; None when it can't be stored at all.
    """
    key = hashlib.sha256(str(records.path.resolve()).encode()).hexdigest()[:16]
    folders = (records.path / INDEX / name, user_cache() / f"{records.name}-{key}.index" / name)
    state = {"version": _VERSION, **records.state()}
    for folder in folders:
        notes = _read_notes(folder, state)
        if notes is not None:
            return folder, notes
    for folder in folders:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(folder.with_name(f".{name}.lock")):
                notes = _read_notes(folder, state)  # of processes that start together the first has written it
                return folder, _write_part(folder, write, state) if notes is None else notes
        except OSError as error:
            reason = error
    LOG.warning("no index of %s can be stored (%s); its labels are read at each start", records.path, reason)
    return None


def _write_part(folder: Path, write: Callable[[Path], Notes], state: Notes) -> Notes:
    with replacing(folder) as beside:
        beside.mkdir()
        notes = write(beside)
        stored = {"of": state, "notes": notes, "files": _sizes(beside)}
        (beside / _STATE).write_text(json.dumps(stored), encoding="utf-8")
    return notes


def _sizes(folder: Path) -> Notes:
    return {file.name: file.stat().st_size for file in folder.iterdir() if file.name != _STATE}


def _read_notes(folder: Path, state: Notes) -> Notes | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        if stored["of"] == state and stored["files"] == _sizes(folder):
            return dict(stored["notes"])
    return None


def _write_labels(records: LmdbRecords, folder: Path) -> Notes:
    ends = np.lib.format.open_memmap(folder / _ENDS, mode="w+", dtype=np.uint64, shape=(len(records),))
    with (folder / _TEXT).open("wb") as file:
        done = 0
        chunks = followed(read_labels(records), -(-len(records) // CHUNK), f"index of the labels of {records.name}")
        for labels in chunks:
            ends[done : done + len(labels.ends)] = labels.ends + np.uint64(file.tell())
            file.write(labels.text)
            done += len(labels.ends)
    ends.flush()
    return {}


def _read_stored(folder: Path) -> Iterator[Labels]:
    ends = np.load(folder / _ENDS, mmap_mode="r", allow_pickle=False)
    with (folder / _TEXT).open("rb") as file:
        for start in range(0, len(ends), CHUNK):
            before, here = np.uint64(file.tell()), np.array(ends[start : start + CHUNK])
            yield Labels(file.read(int(here[-1] - before)), here - before)
