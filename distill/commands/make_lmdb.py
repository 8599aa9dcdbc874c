"""Pack a folder of labelled pictures into an LMDB."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from distill.commands import CommandParser
from distill.data.folders import FolderRecords
from distill.data.progress import followed
from distill.data.records import BadRecordError
from distill.data.writing import LmdbWriter
from distill.errors import UserError, exit_on_user_error
from students.charset import Charset
from students.pictures import DamagedPictureError, decode_picture

NAMED = 5
"""Dropped pictures that are named for each reason."""


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    made = CommandParser(
        prog="make_lmdb",
        description="Write an LMDB from a folder of pictures with a file of labels (labels.tsv, .csv or .jsonl).",
    )
    made.add_argument("folder", type=Path, help="folder of pictures")
    made.add_argument("out", type=Path, help="folder of the LMDB to write")
    made.add_argument("--labels", type=Path, metavar="FILE", help="label file, when it is not labels.* in the folder")
    made.add_argument("--charset", default="94", help="36, 62, 94 or a text file: words outside it are dropped (94)")
    made.add_argument("--max-length", type=int, default=25, metavar="N", help="longest word in characters (25)")
    made.add_argument("--overwrite", action="store_true", help="replace an LMDB that is there")
    return made


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `parser`."""
    given = parser().parse_args(argv)
    if not given.folder.is_dir():
        raise UserError(f"{given.folder}: no such folder; give one of pictures with labels.tsv in it")
    records = FolderRecords(given.folder, given.labels)
    charset = Charset.load(given.charset)
    with LmdbWriter(given.out, given.overwrite) as writer:
        dropped, named = copy_words(records, charset, given.max_length, writer)
        if writer.count == 0:
            reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "the label file is empty"
            raise UserError(f"{given.folder}: no word is left to write ({reasons}){named and f'; first: {named[0]}'}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{given.out}: {writer.count} of {len(records)} words written")
    for reason, count in dropped.most_common():
        console.print(f"  dropped: {count} {reason}")
    for line in named:
        console.print(f"  {line}", markup=False)
    return 0


def copy_words(
    records: FolderRecords, charset: Charset, max_length: int, writer: LmdbWriter
) -> tuple[Counter[str], list[str]]:
    """Copy pictures that can be read, with labels as they stand; count the rest by reason and name some of it."""
    dropped: Counter[str] = Counter()
    named: list[str] = []
    for position, stored in followed(records.labels(), len(records), f"writing {records.name}"):
        label = stored or ""
        reason: str | None = charset.drop_reason(label, max_length)
        said = f"{records.describe(position)}: {label!r} is {reason}"
        if reason == "empty" and label.strip():
            reason = "outside the alphabet"
            said = f"{records.describe(position)}: {label!r} has no character of the alphabet"
        if reason is None:
            try:
                data = records.image(position)
                decode_picture(data)
                writer.add(data, label)
                continue
            except (BadRecordError, DamagedPictureError) as error:
                reason = "without a picture that can be read"
                said = str(error) if isinstance(error, BadRecordError) else f"{records.describe(position)}: {error}"
        dropped[reason] += 1
        if dropped[reason] <= NAMED:
            named.append(said)
    return dropped, named
