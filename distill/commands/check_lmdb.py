"""Check data sets of words, and search training words for test words."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from distill.commands import CommandParser
from distill.data.audit import Overlap, SetReport, examine, find_overlaps, sample_sheet
from distill.data.records import Records
from distill.data.trees import open_set, open_sets
from distill.errors import UserError, exit_on_user_error
from students.charset import Charset
from students.files import replacing, write_file

_SHOWN_OVERLAPS = 20


def parser() -> argparse.ArgumentParser:
    """Build the command's arguments."""
    made = CommandParser(
        prog="check_lmdb",
        description="Check sets of words: counts, what label rules drop, picture sizes, corrupt records, overlaps. "
        "Exit 1 when something is corrupt or overlaps.",
    )
    made.add_argument("data", type=Path, help="LMDB, image folder, list of records, or a folder that holds sets")
    made.add_argument("--charset", default="36", help="36, 62, 94 or a text file: the alphabet to judge labels by (36)")
    made.add_argument("--max-length", type=int, default=25, metavar="N", help="longest word in characters (25)")
    made.add_argument("--against", type=Path, metavar="TRAIN", help="training words to search for the same pictures")
    made.add_argument("--sheet", type=Path, metavar="PNG", help="where the sheet of samples goes (./NAME-samples.png)")
    made.add_argument("--no-sheet", action="store_true", help="draw no sheet")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON too")
    return made


@exit_on_user_error
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; see `parser`."""
    given = parser().parse_args(argv)
    charset = Charset.load(given.charset)
    single = given.data.is_file() or not given.data.exists()
    sets: list[Records] = [open_set(given.data)] if single else open_sets(given.data)
    against = open_sets(given.against) if given.against is not None else None
    sheet = given.sheet or Path(f"{sets[0].name if len(sets) == 1 else given.data.resolve().name}-samples.png")
    for file in (*(() if given.no_sheet else (sheet,)), *((given.json,) if given.json else ())):
        if not file.resolve().parent.is_dir() or file.is_dir():
            raise UserError(f"{file} can't be written: give a file in a folder that exists")

    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = 120
    reports = [examine(records, charset, given.max_length) for records in sets]
    show_counts(console, reports)
    for report in reports:
        show_findings(console, report)
    overlaps = find_overlaps(against, sets) if against is not None else None
    if overlaps is not None:
        show_overlaps(console, overlaps, given.against)
    if not given.no_sheet:
        save_sheet(sample_sheet(sets), sheet)
        console.print(f"sheet of samples: {escape(str(sheet))}")
    if given.json:
        save_findings(given.json, reports, overlaps)
    return 1 if overlaps or any(report.corrupt for report in reports) else 0


def show_counts(console: Console, reports: Sequence[SetReport]) -> None:
    """Print one row a set."""
    table = Table("set", "records", "kept", "dropped", "corrupt", "width", "height", "columns")
    for report in reports:
        table.add_row(
            escape(report.name), str(report.records), str(report.kept), str(sum(report.dropped.values())),
            str(report.corrupt), _spread(report.widths), _spread(report.heights), str(report.with_columns),
        )  # fmt: skip
    if len(reports) > 1:
        counts = [(r.records, r.kept, sum(r.dropped.values()), r.corrupt, r.with_columns) for r in reports]
        records, kept, dropped, corrupt, columns = (str(sum(column)) for column in zip(*counts, strict=True))
        table.add_row("all", records, kept, dropped, corrupt, "", "", columns)
    console.print(table)
    console.print("width, height: smallest / median / largest; columns: records with the character under each column")


def show_findings(console: Console, report: SetReport) -> None:
    """Print what is dropped, which characters the alphabet lacks, and which records are corrupt."""
    for reason, count in report.dropped.items():
        shown = ", ".join(map(repr, report.examples[reason]))
        console.print(f"{report.name}: {count} labels dropped, {reason}: {shown}", markup=False)
    if report.outside:
        shown = "  ".join(f"{char!r} {count}" for char, count in list(report.outside.items())[:30])
        console.print(f"{report.name}: characters outside the alphabet: {shown}", markup=False)
    for line in report.corrupt_named:
        console.print(f"{report.name}: corrupt: {line}", markup=False)
    if report.corrupt > len(report.corrupt_named):
        more = report.corrupt - len(report.corrupt_named)
        console.print(f"{report.name}: and {more} corrupt records more", markup=False)


def show_overlaps(console: Console, overlaps: Sequence[Overlap], against: Path) -> None:
    """Print what was found in the training words."""
    if not overlaps:
        console.print(f"no picture of these is in {against}, equal or nearly so", markup=False)
        return
    console.print(f"{len(overlaps)} pictures of these are in {against} as well:", markup=False)
    for overlap in overlaps[:_SHOWN_OVERLAPS]:
        pair = f"{overlap.test} ({overlap.label!r}) and {overlap.train}"
        line = f"  {pair}: {overlap.kind}, correlation {overlap.correlation:.3f}"
        console.print(line, markup=False)
    if len(overlaps) > _SHOWN_OVERLAPS:
        console.print(f"  and {len(overlaps) - _SHOWN_OVERLAPS} more")


def save_sheet(sheet: Image.Image, file: Path) -> None:
    """Write the sheet."""
    with replacing(file) as beside:
        sheet.save(beside, format="PNG")


def save_findings(file: Path, reports: Sequence[SetReport], overlaps: Sequence[Overlap] | None) -> None:
    """Write all findings as JSON."""
    found = {
        "schema": 1,
        "sets": [dataclasses.asdict(report) for report in reports],
        "overlaps": None if overlaps is None else [dataclasses.asdict(overlap) for overlap in overlaps],
    }
    write_file(file, json.dumps(found, indent=1, ensure_ascii=False))


def _spread(quantiles: Sequence[int]) -> str:
    return f"{quantiles[0]} / {quantiles[2]} / {quantiles[4]}" if quantiles else "-"
