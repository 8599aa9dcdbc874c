"""Divide labelled words in two by their labels, so that a held-out word is not in training in another picture."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from distill.data.records import BadRecordError, Records
from distill.data.writing import LmdbWriter
from students.errors import UserError
from students.files import check_output

HELD_OUT, TRAIN = "held-out", "train"


@dataclass
class HeldOut:
    """How many words went where."""

    held_out: int = 0
    train: dict[str, int] = field(default_factory=dict)
    """Words of each set that are left to learn from."""
    unreadable: int = 0

    @property
    def total(self) -> int:
        """Words that were written."""
        return self.held_out + sum(self.train.values())


def is_held_out(label: str, every: int) -> bool:
    """Tell by a label's letters and digits, whatever their case, whether it is held out; alike in all runs."""
    key = "".join(char for char in label.lower() if char.isalnum())
    return zlib.crc32(key.encode("utf-8")) % every == 0


def hold_out(sets: Sequence[Records], root: Path, out: Path, every: int) -> HeldOut:
    """Write the words of each set to OUT/train, under its path below `root`, and the held-out ones to OUT/held-out.

    Args:
        sets: labelled words.
        root: the folder that they lie in.
        out: must not exist.
        every: one of so many labels is held out.

    Raises:
        UserError: when `out` exists, or one of the two parts would be empty.
    """
    check_output(out, False, "sets", lambda folder: False, "folder")
    counts = HeldOut()
    with ExitStack() as stack:
        held = stack.enter_context(LmdbWriter(out / HELD_OUT))
        for records in sets:
            name = records.path.relative_to(root).as_posix() if records.path != root else root.resolve().name
            writer = stack.enter_context(LmdbWriter(out / TRAIN / name))
            for position, label in records.labels():
                try:
                    image = records.image(position)
                except BadRecordError:
                    image = b""
                if label is None or not image:
                    counts.unreadable += 1
                    continue
                (held if is_held_out(label, every) else writer).add(image, label)
            counts.train[name] = writer.count
        counts.held_out = held.count
        if not counts.held_out or not sum(counts.train.values()):
            raise UserError(f"{root}: of {counts.total} words one part would have none; choose another --every")
    return counts
