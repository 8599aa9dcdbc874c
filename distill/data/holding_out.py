"""Divide labelled words in two by their labels, so that a held-out word is not in training in another picture."""

from __future__ import annotations

import dataclasses
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from distill.data.distributions import StoredDistributions
from distill.data.progress import followed
from distill.data.records import BadRecordError, Records, decode_record
from distill.data.writing import LmdbWriter, check_outside
from students.charset import ILLEGIBLE
from students.errors import UserError
from students.files import check_output, replacing

HELD_OUT, TRAIN = "held-out", "train"


@dataclass
class HeldOut:
    """How many words went where."""

    held_out: int = 0
    train: dict[str, int] = field(default_factory=dict)
    """Words of each set that are left to learn from."""
    unreadable: list[str] = field(default_factory=list)
    """Records without a label or a picture that can be read, and why."""
    illegible: int = 0
    """Marks for words that nobody can read, such as `###`, which are left out."""
    signs: int = 0
    """Held-out words without letters and digits."""
    damaged: int = 0
    """Words whose confidence is no number, which they lose."""

    @property
    def total(self) -> int:
        """Words that were written."""
        return self.held_out + sum(self.train.values())


def is_held_out(label: str, every: int) -> bool:
    """Tell by a label's letters and digits, whatever their case, whether it is held out; alike in all runs.

    Composed and decomposed letters are the same, letters with and without an accent are not. Labels without letters
    and digits count as one label, which is held out.
    """
    return zlib.crc32(_key(label).encode("utf-8")) % every == 0


def _key(label: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFC", label).lower() if char.isalnum())


def hold_out(sets: Sequence[Records], root: Path, out: Path, every: int) -> HeldOut:
    """Write the words of each set to OUT/train, under its path below `root`, and the held-out ones to OUT/held-out.

    What is stored with a word goes with it: columns, confidence and, in OUT/train, distributions over its characters.

    Args:
        sets: labelled words.
        root: the folder that they lie in.
        out: must not exist.
        every: about one of so many labels is held out.

    Raises:
        UserError: when `out` exists or lies in `root`, or one of the two parts would be empty; nothing is written then.
    """
    check_outside(out, root)
    check_output(out, None, "sets", lambda folder: False, "folder")
    keys = Counter(_key(label) for records in sets for _, label in records.labels() if label and _is_word(label))
    if not keys:
        raise UserError(f"{root} has no labelled words; look at it with check-lmdb")
    if len(keys) == 1:
        raise UserError(f"{root}: all words have one label, {next(iter(keys))!r}; there is nothing to divide them by")
    total, held = keys.total(), sum(count for key, count in keys.items() if is_held_out(key, every))
    if not 0 < held < total:
        other = "another" if held else "a smaller"
        raise UserError(f"{root}: of {total} words one part would have none; choose {other} --every")
    counts = HeldOut()
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as beside, ExitStack() as stack:
        kept_out = stack.enter_context(LmdbWriter(beside / HELD_OUT))
        for records in sets:
            name = records.path.relative_to(root).as_posix() if records.path != root else root.resolve().name
            writer, with_distributions = None, 0
            for position, label in followed(records.labels(), len(records), f"dividing {name}"):
                if label is not None and ILLEGIBLE.fullmatch(label.strip()):
                    counts.illegible += 1
                    continue
                try:
                    label = records.label(position) if label is None else label
                    decode_record(records, position)
                    image = records.image(position)
                except BadRecordError as error:
                    counts.unreadable.append(str(error))
                    continue
                if not label.strip():
                    counts.unreadable.append(f"{records.describe(position)} has an empty label")
                    continue
                columns, confidence = records.columns(position), None
                try:
                    confidence = records.confidence(position)
                except BadRecordError:
                    counts.damaged += 1
                if is_held_out(label, every):
                    kept_out.add(image, label, columns, confidence=confidence)
                    counts.signs += not _key(label)
                    continue
                if writer is None:  # a set of which nothing is left is not written
                    writer = stack.enter_context(LmdbWriter(beside / TRAIN / name))
                distribution = records.distribution(position)
                writer.add(image, label, columns, distribution, confidence)
                with_distributions += distribution is not None
            if writer is not None and with_distributions:
                stored = dataclasses.replace(StoredDistributions.read(records), words=with_distributions)
                writer.describe_distributions(stored.to_json())
            counts.train[name] = 0 if writer is None else writer.count
        counts.held_out = kept_out.count
        if not 0 < kept_out.count < counts.total:
            raise UserError(
                f"{root}: one part would have none of the {counts.total} words that can be read; choose another "
                "--every, or look at them with check-lmdb"
            )
    return counts


def _is_word(label: str) -> bool:
    return bool(label.strip()) and not ILLEGIBLE.fullmatch(label.strip())
