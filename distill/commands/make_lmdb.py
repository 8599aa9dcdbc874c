"""Pack a folder of labelled pictures into an LMDB."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from distill.commands import CommandParser, integer
from distill.data.describing import describe_lookalikes, name_characters
from distill.data.folders import FolderRecords, list_names
from distill.data.label_files import (
    describe_quoted,
    describe_structured,
    has_label_file,
    is_quoted,
    is_structured,
)
from distill.data.lmdb_reader import DATA_FILE
from distill.data.progress import PLAIN, followed
from distill.data.records import BadRecordError, decode_record
from distill.data.trees import refuse_inner_set
from distill.data.writing import LmdbWriter, check_outside
from distill.errors import exit_on_user_error
from students.charset import Charset
from students.errors import UserError

NAMED = 5
"""Dropped pictures that are named for each reason."""
REASONS = {
    "illegible": "illegible (marks for words that nobody can read; --keep-illegible writes them)",
    "too long": "too long",
    "empty": "empty",
}
"""What is printed for the reasons of the label rules."""


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(
        prog="make_lmdb",
        description="Write an LMDB from a folder of pictures with a label file (labels.tsv, .csv or .jsonl).",
    )
    command.add_argument("folder", type=Path, help="folder of pictures")
    command.add_argument("out", type=Path, help="folder of the LMDB to write")
    command.add_argument(
        "--labels", type=Path, metavar="FILE", help="label file, when it is not labels.* in the folder"
    )
    command.add_argument(
        "--charset",
        default="94",
        help="36, 62, 94, 95 or a text file: words without one of its characters go (94)",
    )
    command.add_argument(
        "--max-length", type=integer(1), default=25, metavar="N", help="longest word in characters (25)"
    )
    command.add_argument(
        "--keep-illegible", action="store_true", help="write marks for illegible words (### and *) as words"
    )
    command.add_argument("--overwrite", action="store_true", help="replace an LMDB that is there")
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; see `parser`."""
    given = parser().parse_args(argv)
    if not given.folder.is_dir():
        raise UserError(f"{given.folder}: no such folder; give one of pictures with labels.tsv in it")
    check_outside(given.out, given.folder)
    if given.labels is None:
        if (given.folder / DATA_FILE).is_file():
            raise UserError(f"{given.folder} is an LMDB already; check-lmdb examines it")
        if has_label_file(given.folder):
            refuse_inner_set(given.folder)
    records = FolderRecords(given.folder, given.labels)
    charset = Charset.load(given.charset)
    with LmdbWriter(given.out, given.overwrite) as writer:
        dropped, named, outside = copy_words(records, charset, given.max_length, given.keep_illegible, writer)
        if writer.count == 0:
            reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "the label file is empty"
            first = f"; first: {named[0]}" if named else ""
            first += "; give the alphabet of these labels, --charset FILE" if dropped["outside the alphabet"] else ""
            raise UserError(f"{given.folder}: no word is left to write ({reasons}){first}")
    console = Console(**PLAIN)
    console.print(f"{given.out}: {writer.count} of {len(records)} words written")
    for reason, count in dropped.most_common():
        console.print(f"  dropped: {count} {reason}")
    for line in named:
        console.print(f"  {line}")
    if outside:
        console.print(
            f"  outside the alphabet in so many of the words written: {name_characters(outside)}; they stay in the "
            "labels, and where such an alphabet is read or taught they are replaced or left out"
        )
        for line in describe_lookalikes(outside, charset):
            console.print(f"  {line}")
    labels = [label for _, label in records.labels() if label]
    if structured := [label for label in labels if is_structured(label)]:
        console.print(f"  {describe_structured(structured)}")
    if quoted := [label for label in labels if is_quoted(label)]:
        console.print(f"  {describe_quoted(quoted)}")
    if records.repeated:
        console.print(f"  {records.repeated} entries repeat a picture with its label and count once")
    unlisted = records.unlisted()
    if unlisted:
        console.print(f"  {len(unlisted)} pictures are not in {records.label_file.path}: {list_names(unlisted)}")
    return 0


def copy_words(
    records: FolderRecords, charset: Charset, max_length: int, keep_illegible: bool, writer: LmdbWriter
) -> tuple[Counter[str], list[str], Counter[str]]:
    """Copy pictures that can be read, with labels as they stand.

    Returns:
        How many were dropped by reason, lines that name some of them, and in how many of the copied words which
        characters outside the alphabet stand.
    """
    dropped: Counter[str] = Counter()
    outside: Counter[str] = Counter()
    named: list[str] = []
    for position, stored in followed(records.labels(), len(records), f"writing {records.name}"):
        label, name = stored or "", records.describe(position)
        verdict = charset.examine(label, max_length, keep_illegible=keep_illegible)
        rule = verdict.reason
        if rule is None:
            try:
                decode_record(records, position)
                writer.add(records.image(position), label)
                outside.update({*verdict.removed, *verdict.folded, *(" " if verdict.joined else "")})
                continue
            except BadRecordError as error:
                reason = (
                    "without a picture that can be read" if records.exists(position) else "whose picture is missing"
                )
                message = str(error)
        elif rule == "empty" and label.strip():
            reason, message = "outside the alphabet", f"{name}: {label!r} has no character of the alphabet"
        else:
            reason, message = REASONS[rule], f"{name}: {label!r} is {rule}"
        dropped[reason] += 1
        if dropped[reason] <= NAMED:
            named.append(message)
    return dropped, named, outside
