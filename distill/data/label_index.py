"""The label index: what an alphabet keeps of an LMDB, in files that are made once and mapped by all processes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.caches import user_cache
from distill.data.kept import CHUNK, Kept, Labels, Positions, chunks, judge
from distill.data.lmdb_reader import LmdbRecords
from distill.data.progress import followed
from distill.data.records import Records
from distill.locks import one_at_a_time
from students.charset import Charset
from students.files import replacing

LOG = logging.getLogger(__name__)

INDEX = "labels.index"
"""Folder of the index, in the LMDB's own."""
LEAST = 20_000
"""Records from which on an index is made: fewer labels are read in a moment."""
_VERSION = 1
_TEXT, _ENDS, _POSITIONS, _STATE = "labels.bin", "ends.npy", "positions.npy", "state.json"
Notes = dict[str, Any]


def keep(records: Records, charset: Charset, max_length: int) -> Kept:
    """Judge the labels of a set by the rules of METHOD 1.6.

    An LMDB of many words is walked through once. From then on its labels, and the positions that are kept for each
    alphabet and length, lie in files, which are made again when the LMDB has changed. Other sets are read each time.
    """
    if isinstance(records, LmdbRecords) and len(records) >= LEAST:
        found = _indexed(records, charset, max_length)
        if found is not None:
            return found
    return judge(chunks(records), charset, max_length)


def _indexed(records: LmdbRecords, charset: Charset, max_length: int) -> Kept | None:
    def make(folder: Path) -> Notes:
        labels = _part(records, "labels", lambda place: _write_labels(records, place))
        found = chunks(records) if labels is None else _stored(labels[0])
        kept = judge(found, charset, max_length)
        np.save(folder / _POSITIONS, kept.positions.array)
        return dict(kept.dropped)

    rules = hashlib.sha256(f"{max_length}|{charset.characters}".encode()).hexdigest()[:16]
    part = _part(records, f"kept-{rules}", make)
    return None if part is None else Kept(Positions(part[0] / _POSITIONS), Counter(part[1]))


def _part(records: LmdbRecords, name: str, make: Callable[[Path], Notes]) -> tuple[Path, Notes] | None:
    """Give the folder of one part of the index, made when none fits the LMDB as it is, and what is noted of it.

    It lies with the LMDB, or with the user where that can't be written to; None when it can't be kept at all.
    """
    key = hashlib.sha256(str(records.path.resolve()).encode()).hexdigest()[:16]
    places = (records.path / INDEX / name, user_cache() / f"{records.name}-{key}.index" / name)
    state = {"version": _VERSION, **records.state()}
    for place in places:
        notes = _notes(place, state)
        if notes is not None:
            return place, notes
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(place.with_name(f".{name}.lock")):
                notes = _notes(place, state)  # of processes that start together the first has made it
                return place, _made(place, make, state) if notes is None else notes
        except OSError as error:
            failed = error
    LOG.warning("no index of %s can be kept (%s); its labels are read at each start", records.path, failed)
    return None


def _made(place: Path, make: Callable[[Path], Notes], state: Notes) -> Notes:
    with replacing(place) as beside:
        beside.mkdir()
        notes = make(beside)
        stored = {"of": state, "notes": notes, "files": _sizes(beside)}
        (beside / _STATE).write_text(json.dumps(stored), encoding="utf-8")
    return notes


def _sizes(place: Path) -> Notes:
    return {file.name: file.stat().st_size for file in place.iterdir() if file.name != _STATE}


def _notes(place: Path, state: Notes) -> Notes | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads((place / _STATE).read_text(encoding="utf-8"))
        if stored["of"] == state and stored["files"] == _sizes(place):
            return dict(stored["notes"])
    return None


def _write_labels(records: LmdbRecords, folder: Path) -> Notes:
    ends = np.lib.format.open_memmap(folder / _ENDS, mode="w+", dtype=np.uint64, shape=(len(records),))
    with (folder / _TEXT).open("wb") as file:
        done = 0
        walked = followed(chunks(records), -(-len(records) // CHUNK), f"index of the labels of {records.name}")
        for labels in walked:
            ends[done : done + len(labels.ends)] = labels.ends + np.uint64(file.tell())
            file.write(labels.text)
            done += len(labels.ends)
    ends.flush()
    return {}


def _stored(folder: Path) -> Iterator[Labels]:
    ends = np.load(folder / _ENDS, mmap_mode="r", allow_pickle=False)
    with (folder / _TEXT).open("rb") as file:
        for start in range(0, len(ends), CHUNK):
            before, here = np.uint64(file.tell()), np.array(ends[start : start + CHUNK])
            yield Labels(file.read(int(here[-1] - before)), here - before)
