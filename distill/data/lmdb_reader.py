"""Read words from an LMDB with the keys of the field: `num-samples`, `image-%09d`, `label-%09d`, `columns-%09d`."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import lmdb

from distill.data.records import BadRecordError, Records
from students.errors import UserError

DATA_FILE = "data.mdb"
DISTRIBUTIONS = b"distributions"
"""Key of what an LMDB says of the distributions in it, `distribution-%09d`; see `distill.data.distributions`."""
MAX_READS = 1000
"""Look-ups until an LMDB is opened anew. Each maps what lies around it too (64 KiB, more on recent kernels), which is
never given back: the memory of a process that reads at random would seem to grow to the size of the file."""


class LmdbRecords(Records):
    """The words of one LMDB, opened on first use in each process.

    Workers may be forked or spawned: a pickled set carries its path and its count, no open file.

    Raises:
        UserError: when the folder holds no LMDB that can be read, or one without `num-samples`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.name = Path(path), Path(path).resolve().name
        self._shared: _Environment | None = None
        count = self._get(b"num-samples")
        if count is None:
            raise UserError(f"{path} has no `num-samples`; it is no LMDB of words: write one with make-lmdb")
        if not count.isdigit():
            raise UserError(f"{path}: `num-samples` is {count[:20]!r}, no number; write the LMDB again with make-lmdb")
        self._count = int(count)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shared": None}

    def __len__(self) -> int:
        return self._count

    def labels(self) -> Iterator[tuple[int, str | None]]:
        """See `Records`; one walk over the tree, many times quicker than single look-ups."""
        expected = 0
        for position, value in self._walk(b"label-", 0):
            if expected <= position < self._count:
                yield from ((missing, None) for missing in range(expected, position))
                yield position, _decode_utf8(bytes(value))
                expected = position + 1
        yield from ((missing, None) for missing in range(expected, self._count))

    def count_beyond(self) -> int:
        """See `Records`: those beyond `num-samples`, or under the number 0."""
        beyond = max(sum(1 for _ in self._walk(kind, self._count)) for kind in (b"image-", b"label-"))
        return beyond + (self._get(b"image-%09d" % 0) is not None)

    def count_undecodable(self) -> int:
        """See `Records`."""
        return sum(_decode_utf8(bytes(value)) is None for _, value in self._walk(b"label-", 0))

    def label(self, position: int) -> str:
        """See `Records`."""
        stored = self._get(b"label-%09d" % (position + 1))
        if stored is None:
            raise BadRecordError(f"{self.describe(position)} has no label")
        label = _decode_utf8(stored)
        if label is None:
            raise BadRecordError(f"the label of {self.describe(position)} is no UTF-8")
        return label

    def image(self, position: int) -> bytes:
        """See `Records`."""
        stored = self._get(b"image-%09d" % (position + 1))
        if not stored:
            raise BadRecordError(f"{self.describe(position)} has no picture")
        return stored

    def columns(self, position: int) -> bytes | None:
        """See `Records`."""
        return self._get(b"columns-%09d" % (position + 1))

    def distributions(self) -> bytes | None:
        """See `Records`."""
        return self._get(DISTRIBUTIONS)

    def distribution(self, position: int) -> bytes | None:
        """See `Records`."""
        return self._get(b"distribution-%09d" % (position + 1))

    def confidence(self, position: int) -> float | None:
        """See `Records`."""
        stored = self._get(b"confidence-%09d" % (position + 1))
        try:
            confidence = None if stored is None else float(stored)
        except ValueError:
            confidence = math.nan
        if confidence is not None and not 0 <= confidence <= 1:
            raise BadRecordError(f"the confidence of {self.describe(position)} is no number from 0 to 1")
        return confidence

    def describe(self, position: int) -> str:
        """Name a record by its number counted from 1, as in its keys."""
        return f"record {position + 1} of {self.name}"

    def fingerprint(self) -> str:
        """See `Records`: from path, size and time of the file, not from its content, which may be many gigabytes."""
        file = (self.path / DATA_FILE).resolve()
        stat = file.stat()
        return hashlib.sha256(f"{file}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:16]

    def state(self) -> dict[str, int]:
        """Return what changes whenever the LMDB is written to; where it lies does not count."""
        stat = (self.path / DATA_FILE).stat()
        return {
            "records": len(self), "size": stat.st_size, "time_ns": stat.st_mtime_ns,
            "transaction": self._environment().get().info()["last_txnid"],
        }  # fmt: skip

    def _walk(self, kind: bytes, start: int) -> Iterator[tuple[int, bytes | memoryview]]:
        """Walk through the keys of one kind: positions from `start` on, and what is stored, valid until the next."""
        with self._environment().walk() as transaction, transaction.cursor() as cursor:
            more = cursor.set_range(b"%s%09d" % (kind, start + 1))
            while more and bytes(cursor.key()).startswith(kind):
                number = bytes(cursor.key())[len(kind) :]
                if number.isdigit():
                    yield int(number) - 1, cursor.value()
                more = cursor.next()

    def _get(self, key: bytes) -> bytes | None:
        return self._environment().read(key)

    def _environment(self) -> _Environment:
        if self._shared is None:
            key = str(self.path.resolve())
            self._shared = _OPEN.get(key) or _OPEN.setdefault(key, _Environment(self.path))
        return self._shared


def describe_unread(sets: Sequence[Records]) -> list[str]:
    """Say in a line how many records of all sets nobody reads (`LmdbRecords.count_beyond`); no line where none."""
    unread = sum(records.count_beyond() for records in sets)
    where = "that an LMDB stores beyond num-samples, or under the number 0"
    return [f"  passed over: {unread:,} records {where}"] if unread else []


class _Environment:
    """One LMDB of this process; a forked child closes what it inherited and opens its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process = self._reads = self._walks = 0
        self._opened: lmdb.Environment | None = None

    def read(self, key: bytes) -> bytes | None:
        """Copy what is stored under a key."""
        if self._reads >= MAX_READS and not self._walks:
            self._close()
        environment = self.get()
        self._reads += 1
        with environment.begin(buffers=True) as transaction:
            stored = transaction.get(key)
            return None if stored is None else bytes(stored)

    @contextmanager
    def walk(self) -> Iterator[lmdb.Transaction]:
        """Open a transaction for many reads, during which the LMDB stays open."""
        with self.get().begin(buffers=True) as transaction:
            self._walks += 1
            try:
                yield transaction
            finally:
                self._walks -= 1

    def get(self) -> lmdb.Environment:
        """Return the open LMDB."""
        if self._opened is None or self._process != os.getpid():
            if self._process != os.getpid():
                self._walks = 0  # those that go on are another process's
            self._close()
            self._opened, self._process = _open(self.path), os.getpid()
        return self._opened

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened, self._reads = None, 0


_OPEN: WeakValueDictionary[str, _Environment] = WeakValueDictionary()
"""LMDB refuses to open a file twice in one process, so all sets over one file share what is open."""


def _open(path: Path) -> lmdb.Environment:
    file = path / DATA_FILE
    if not file.is_file():
        raise UserError(f"{path} holds no LMDB (no {DATA_FILE} in it); give the folder of an LMDB")
    try:
        opened = lmdb.open(str(path), readonly=True, lock=False, readahead=False, meminit=False, create=False)
        pages = opened.info()["last_pgno"] + 1
        whole = pages * opened.stat()["psize"]
    except lmdb.Error as error:
        raise UserError(f"{file} can't be opened as an LMDB ({error}); copy it again, or run make-lmdb") from None
    if file.stat().st_size < whole:
        # Reading past the end of a mapped file kills the process, so this is checked now.
        opened.close()
        raise UserError(f"{file} is cut off: {file.stat().st_size} of {whole} bytes; copy it again")
    return opened


def _decode_utf8(label: bytes) -> str | None:
    try:
        return label.decode("utf-8")
    except UnicodeDecodeError:
        return None
