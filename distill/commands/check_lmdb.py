"""Check data sets of words, and search training words for test words."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

from distill.commands import CommandParser, integer
from distill.data.audit import SetReport, examine, sample_items
from distill.data.columns import COLUMNS
from distill.data.describing import describe_lookalikes, name_characters
from distill.data.folders import list_names
from distill.data.label_files import describe_quoted, describe_structured
from distill.data.overlap import Overlap, find_overlaps
from distill.data.progress import PLAIN
from distill.data.records import Records
from distill.data.sheets import write_sheet
from distill.data.trees import describe_loose, open_all, open_set, open_sets
from distill.data.writing import check_outside
from distill.errors import exit_on_user_error
from students.charset import Charset
from students.errors import UserError
from students.files import check_file, write_file
from students.turning import TALL

LONGEST = 60
"""Characters of a label that are printed."""
MEANINGS = {
    "illegible": " (marks for words that nobody can read)",
    "empty": " (without a character of the alphabet)",
}
"""What reasons for dropping labels mean."""
MAX_LISTED = 20
"""Overlaps, labels and file names that are printed of many."""
MAX_CORRUPT_LISTED = 100
"""Corrupt records of a set that are printed; `--json` names all."""

SHEET_TITLE = "Sheet of samples, drawn by check_lmdb"
"""Title in a sheet's file, by which it is known as one."""


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    command = CommandParser(
        prog="check_lmdb",
        description="Check sets of words: counts, what the label rules drop, picture sizes, what can't be read, and "
        "overlaps. Exit 1 when a record is damaged, is stored beyond num-samples, or overlaps.",
    )
    command.add_argument("data", type=Path, help="LMDB, image folder, list of records, or a folder that holds sets")
    command.add_argument(
        "--charset", default="36", help="36, 62, 94, 95 or a text file: the alphabet to judge labels by (36)"
    )
    command.add_argument(
        "--max-length", type=integer(1), default=25, metavar="N", help="longest word in characters (25)"
    )
    command.add_argument(
        "--keep-illegible", action="store_true", help="take marks for illegible words (### and *) for words"
    )
    command.add_argument("--against", type=Path, metavar="TRAIN", help="training words to search for the same pictures")
    command.add_argument("--sheet", type=Path, metavar="PNG", help="path of the sheet of samples (./NAME-samples.png)")
    command.add_argument("--no-sheet", action="store_true", help="draw no sheet")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON too, all records named")
    return command


@exit_on_user_error
def main(argv: Sequence[str]) -> int:
    """Run the command; see `parser`."""
    given = parser().parse_args(argv)
    charset = Charset.load(given.charset)
    single = given.data.is_file() or not given.data.exists()
    sets: list[Records] = [open_set(given.data)] if single else open_sets(given.data)
    against = open_all(given.against) if given.against is not None else None
    inputs = [given.data] if given.against is None else [given.data, given.against]
    sheet = given.sheet or Path(f"{sets[0].name if len(sets) == 1 else given.data.resolve().name}-samples.png")
    # A sheet that nobody asked for is not drawn among the pictures that are read.
    unasked = given.sheet is None and any(sheet.resolve().is_relative_to(data.resolve()) for data in inputs)
    draws = not (given.no_sheet or unasked)
    check_outputs(sheet if draws else None, given.json, inputs)

    console = Console(**PLAIN)
    if not console.is_terminal:
        console.width = 120
    reports = [examine(records, charset, given.max_length, given.keep_illegible) for records in sets]
    print_counts(console, reports)
    for report in reports:
        print_findings(console, report, charset)
    for line in describe_loose(given.data, sets):
        console.print(line)
    overlaps = find_overlaps(against, sets) if against is not None else None
    if overlaps is not None:
        print_overlaps(console, overlaps, given.against)
    if draws and any(map(len, sets)):
        write_sheet(sheet.resolve(), [("", sample_items(sets))], columns=8, title=SHEET_TITLE)
        console.print(f"sheet of samples: {sheet}")
    elif unasked and not given.no_sheet:
        console.print("no sheet of samples, since this folder is among those that are read; --sheet PNG draws one")
    if given.json:
        save_findings(given.json, reports, overlaps)
    return 1 if overlaps or any(report.is_damaged for report in reports) else 0


def check_outputs(sheet: Path | None, findings: Path | None, inputs: Sequence[Path]) -> None:
    """Refuse files that can't be written, lie among what is read, or exist and are none that this command wrote.

    Args:
        sheet: the sheet of samples; None draws none.
        findings: the file of `--json`; None writes none.
        inputs: what is read.

    Raises:
        UserError: naming the file.
    """
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise UserError(f"--sheet {sheet} is no PNG; give a name that ends in .png")
    if sheet is not None and findings is not None and sheet.resolve() == findings.resolve():
        raise UserError(f"--sheet and --json both name {sheet}; give two names")
    for option, file, is_own in (("--sheet", sheet, is_sheet), ("--json", findings, is_findings)):
        if file is None:
            continue
        check_file(file, option)
        for data in inputs:
            check_outside(file, data)
        if file.exists() and not is_own(file):
            raise UserError(f"{file} exists, and check-lmdb has not written it; give another name")


def is_sheet(file: Path) -> bool:
    """Tell whether a file is a sheet of samples."""
    try:
        with Image.open(file) as opened:
            return opened.info.get("Title") == SHEET_TITLE
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def is_findings(file: Path) -> bool:
    """Tell whether a file holds findings as JSON."""
    try:
        stored = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(stored, dict) and {"schema", "sets", "overlaps"} <= set(stored)


def print_counts(console: Console, reports: Sequence[SetReport]) -> None:
    """Print a table with a row a set."""
    table = Table("set", "records", "usable", "dropped", "corrupt", "width", "height", "columns")
    for report in reports:
        table.add_row(
            report.name, str(report.records), str(report.usable), str(sum(report.dropped.values())),
            str(report.corrupt), _spread(report.widths), _spread(report.heights), str(report.with_columns),
        )  # fmt: skip
    if len(reports) > 1:
        counts = [(r.records, r.usable, sum(r.dropped.values()), r.corrupt, r.with_columns) for r in reports]
        records, usable, dropped, corrupt, columns = (str(sum(column)) for column in zip(*counts, strict=True))
        table.add_row("all", records, usable, dropped, corrupt, "", "", columns)
    console.print(table)
    console.print("width, height: smallest / median / largest; columns: records with the character under each column")


def print_findings(console: Console, report: SetReport, charset: Charset) -> None:
    """Print what is dropped, replaced, corrupt or never read."""
    name = report.name
    for reason, count in report.dropped.items():
        examples = ", ".join(repr(label[:LONGEST]) for label in report.examples[reason])
        console.print(f"{name}: {count} labels dropped, {reason}{MEANINGS.get(reason, '')}: {examples}")
    for characters, treatment in ((report.removed, "left out"), (report.folded, "replaced")):
        if characters:
            console.print(f"{name}: characters outside the alphabet, {treatment}: {name_characters(characters)}")
            for line in describe_lookalikes(characters, charset):
                console.print(f"{name}: {line}")
    if report.joined:
        words, examples = len(report.joined), list_names(report.joined, MAX_LISTED)
        console.print(f"{name}: {words} labels lose their spaces, which alphabet 95 has: {examples}")
    if report.tall:
        console.print(
            f"{name}: {report.tall} pictures of several characters are {TALL:g} times as high as wide: they are read "
            "turned too, but learned from as they stand; turn those whose words run up or down"
        )
    if report.too_long_for_ctc:
        examples = ", ".join(map(repr, report.too_long_for_ctc_examples))
        console.print(f"{name}: {report.too_long_for_ctc} words need more than {COLUMNS} columns with CTC: {examples}")
    if report.reformatted:
        console.print(
            f"{name}: {len(report.reformatted)} labels look as a spreadsheet changes them; format the column as text "
            f"and type them again: {list_names(report.reformatted, MAX_LISTED)}"
        )
    if report.structured:
        console.print(f"{name}: {describe_structured(report.structured)}")
    if report.quoted:
        console.print(f"{name}: {describe_quoted(report.quoted)}")
    if report.copies:
        console.print(f"{name}: {report.copies} pictures are stored more than once, to the byte")
    if report.contradictions:
        console.print(
            f"{name}: {len(report.contradictions)} of them with another label: "
            f"{list_names(report.contradictions, MAX_LISTED)}"
        )
    if report.beyond:
        console.print(
            f"{name}: corrupt: {report.beyond} more records are stored than num-samples tells ({report.records}); "
            "they are never read: write the LMDB again"
        )
    damaged = {"corrupt": report.corrupt_records, "damaged beside picture and label": report.beside}
    for what, lines in damaged.items():
        for line in lines[:MAX_CORRUPT_LISTED]:
            console.print(f"{name}: {what}: {line}")
        if len(lines) > MAX_CORRUPT_LISTED:
            console.print(f"{name}: {what}: {len(lines) - MAX_CORRUPT_LISTED} more; --json FILE names all")


def print_overlaps(console: Console, overlaps: Sequence[Overlap], against: Path) -> None:
    """Print the pictures that are among the training words."""
    if not overlaps:
        console.print(f"no picture of these is in {against}, equal or nearly so")
        return
    console.print(f"{len(overlaps)} pictures of these are in {against} as well:")
    for overlap in overlaps[:MAX_LISTED]:
        pair = f"{overlap.test} ({overlap.label!r}) and {overlap.train}"
        console.print(f"  {pair}: {overlap.kind}, correlation {overlap.correlation:.3f}")
    if len(overlaps) > MAX_LISTED:
        console.print(f"  and {len(overlaps) - MAX_LISTED} more")


def save_findings(file: Path, reports: Sequence[SetReport], overlaps: Sequence[Overlap] | None) -> None:
    """Write all findings as JSON."""
    findings = {
        "schema": 2,
        "sets": [dataclasses.asdict(report) for report in reports],
        "overlaps": None if overlaps is None else [dataclasses.asdict(overlap) for overlap in overlaps],
    }
    write_file(file.resolve(), json.dumps(findings, indent=1, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def _spread(quantiles: Sequence[int]) -> str:
    return f"{quantiles[0]} / {quantiles[2]} / {quantiles[4]}" if quantiles else "-"
