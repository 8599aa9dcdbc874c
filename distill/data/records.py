"""Define what a stored set of words offers, whatever the store, and lists that cut a set from a larger one."""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from students.errors import UserError
from students.pictures import DamagedPictureError, decode_picture

LIST_SUFFIX = ".indices.txt"


class BadRecordError(Exception):
    """A record is missing or can't be read; the message says which and why."""


class Records(ABC):
    """A set of words; positions count from 0. A store overrides what it has beyond pictures and labels."""

    name: str
    """The set's name."""
    path: Path
    """Its file or folder."""
    repeated = 0
    """Entries of a label file left out because an earlier one names the same picture and label."""

    @abstractmethod
    def __len__(self) -> int:
        """Count the records, readable or not."""

    @abstractmethod
    def labels(self) -> Iterator[tuple[int, str | None]]:
        """Walk through positions and raw labels in order; None where the label is missing or no UTF-8."""

    @abstractmethod
    def label(self, position: int) -> str:
        """Read a raw label; raises `BadRecordError`."""

    @abstractmethod
    def image(self, position: int) -> bytes:
        """Read an encoded picture; raises `BadRecordError`."""

    def missing(self) -> Sequence[int]:
        """List the positions whose picture isn't there, as far as can be told without reading any."""
        return ()

    @abstractmethod
    def describe(self, position: int) -> str:
        """Name a record for people."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a short string that changes when the stored words change."""

    def columns(self, position: int) -> bytes | None:
        """Read the character under each of 32 columns, see `distill.data.columns`; None where that isn't stored."""
        return None

    def distributions(self) -> bytes | None:
        """Read what the set says of its distributions over characters; None when it has none."""
        return None

    def distribution(self, position: int) -> bytes | None:
        """Read the distributions over characters of a word, packed; None where there are none."""
        return None

    def confidence(self, position: int) -> float | None:
        """Read how sure whoever labelled a word was, 0 to 1; None where that isn't stored.

        Raises:
            BadRecordError: for anything else.
        """
        return None

    def count_beyond(self) -> int:
        """Count the records that are stored and that nobody reads."""
        return 0

    @property
    def whole(self) -> Records:
        """The set that the records are stored in: this one, or the larger one that a list cuts them from."""
        return self

    def count_undecodable(self) -> int:
        """Count the labels that are there and are no UTF-8."""
        return 0

    def unlisted(self) -> list[str]:
        """List the pictures beside the records that no label file names."""
        return []


def decode_record(records: Records, position: int) -> Image.Image:
    """Decode the picture of a record; raises `BadRecordError` when it is missing or damaged."""
    try:
        return decode_picture(records.image(position))
    except DamagedPictureError as error:
        raise BadRecordError(f"{records.describe(position)} can't be read as a picture ({error})") from None


class SubsetRecords(Records):
    """Records of a larger set, in the order of a list.

    Args:
        records: the larger set.
        positions: positions in it, counted from 0.
        name: the subset's name.
        path: the list's file.
    """

    def __init__(self, records: Records, positions: Sequence[int], name: str, path: Path) -> None:
        self.records, self.name, self.path = records, name, path
        self.positions = np.asarray(positions, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def whole(self) -> Records:
        """See `Records`."""
        return self.records

    def labels(self) -> Iterator[tuple[int, str | None]]:
        """See `Records`."""
        for position in range(len(self)):
            try:
                yield position, self.label(position)
            except BadRecordError:
                yield position, None

    def label(self, position: int) -> str:
        """See `Records`."""
        return self.records.label(int(self.positions[position]))

    def missing(self) -> Sequence[int]:
        """See `Records`."""
        gone = set(self.records.missing())
        return [position for position, number in enumerate(self.positions.tolist()) if number in gone]

    def image(self, position: int) -> bytes:
        """See `Records`."""
        return self.records.image(int(self.positions[position]))

    def columns(self, position: int) -> bytes | None:
        """See `Records`."""
        return self.records.columns(int(self.positions[position]))

    def distributions(self) -> bytes | None:
        """See `Records`: those of the larger set."""
        return self.records.distributions()

    def distribution(self, position: int) -> bytes | None:
        """See `Records`."""
        return self.records.distribution(int(self.positions[position]))

    def confidence(self, position: int) -> float | None:
        """See `Records`."""
        return self.records.confidence(int(self.positions[position]))

    def describe(self, position: int) -> str:
        """See `Records`."""
        return self.records.describe(int(self.positions[position]))

    def fingerprint(self) -> str:
        """See `Records`."""
        listed = hashlib.sha256(self.positions.tobytes()).hexdigest()[:16]
        return f"{self.records.fingerprint()}-{listed}"


def share_records(one: Records, other: Records) -> bool:
    """Tell whether two sets, or lists of one set, have records in common."""
    if one.whole.path.resolve() != other.whole.path.resolve():
        return False
    if not isinstance(one, SubsetRecords) or not isinstance(other, SubsetRecords):
        return True
    return bool(np.isin(one.positions, other.positions).any())


def read_list(file: Path) -> list[int]:
    """Read a list of records, one number a line counted from 1, as positions counted from 0.

    Raises:
        UserError: for a missing file or a line that is no number above 0.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split()
    except FileNotFoundError:
        raise UserError(f"{file}: no such list of records") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is no text; a list of records has one number a line, counted from 1") from None
    wrong = next((line for line in lines if not re.fullmatch("0*[1-9][0-9]{0,17}", line)), None)
    if wrong is not None or not lines:
        problem = f"has {wrong[:20]!r} in it" if wrong is not None else "is empty"
        raise UserError(f"{file} {problem}; a list of records has one number a line, counted from 1")
    numbers = [int(line) for line in lines]
    if len(set(numbers)) < len(numbers):
        twice = next(number for number, count in Counter(numbers).items() if count > 1)
        raise UserError(f"{file} names record {twice} twice; remove one of them")
    return [number - 1 for number in numbers]


def user_cache() -> Path:
    """Return the folder for caches of this user, which may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "symdistill"
