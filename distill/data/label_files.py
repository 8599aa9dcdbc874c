"""Read label files: tables (tsv, csv) and JSON lines that name pictures and the word on each."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from students.errors import UserError
from students.pictures import PICTURE_ENDINGS

LABEL_FILES = ("labels.tsv", "labels.csv", "labels.jsonl")
"""File names that make a folder of pictures a data set."""
FILE_COLUMNS = (
    "file", "filename", "file_name", "filepath", "file_path", "image", "image_file", "image_name", "imagename",
    "image_path", "imagepath", "img", "img_name", "img_path", "name", "path", "picture",
)  # fmt: skip
"""Names that a column of file names goes by."""
LABEL_COLUMNS = (
    "label", "labels", "word", "words", "text", "texts", "transcription", "transcriptions", "transcript",
    "ground_truth", "gt",
)  # fmt: skip
"""Names that a column of labels goes by."""
_QUOTED_CELL = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')
_LINE_ENDS = re.compile(r"\r\n|\n|\r")


class LabelEntry(NamedTuple):
    """One picture and its label, as a label file has them."""

    file: str
    """Path of the picture below its folder, with slashes."""
    label: str
    line: int
    """Where it stands in the label file, counted from 1."""


@dataclass(frozen=True)
class LabelFile:
    """The entries of a label file, each picture once."""

    path: Path
    entries: tuple[LabelEntry, ...]
    repeated: int
    """Entries left out because an earlier one names the same picture and label."""


class _Row(NamedTuple):
    cells: list[str]
    line: int


def find_label_file(folder: Path) -> Path | None:
    """Find the label file of a folder of pictures; None when it has none.

    Raises:
        UserError: when there are several.
    """
    names = [name for name in LABEL_FILES if (folder / name).is_file()]
    if len(names) > 1:
        raise UserError(f"{folder} has {' and '.join(names)}; remove all but one, or name one: make-lmdb --labels FILE")
    return folder / names[0] if names else None


def has_label_file(folder: Path) -> bool:
    """Tell whether a folder has a label file, or several."""
    return any((folder / name).is_file() for name in LABEL_FILES)


def read_label_file(file: Path, folder: Path | None = None) -> LabelFile:
    """Read a label file.

    Tables have the file name in the first column and the label in the second, and nothing else, or a header that names
    these columns (`FILE_COLUMNS`, `LABEL_COLUMNS`) among others. In a csv, cells are separated by commas or by
    semicolons, and one that holds such a character is quoted; in a tsv (or txt) nothing is quoted. Spaces around cells
    are dropped. A txt file without tabs is read as csv. Lines of a jsonl file are objects with the same names.

    Args:
        file: the label file; its ending says how it is read.
        folder: the folder that the names are relative to, by default the label file's.

    Raises:
        UserError: naming file and line, for a header or a row that is not understood, a name that leads out of the
            folder, or a picture with two labels.
    """
    suffix, folder = file.suffix.lower(), folder or file.parent
    if suffix not in (".tsv", ".txt", ".csv", ".jsonl"):
        raise UserError(f"{file}: labels are read from .tsv, .csv or .jsonl")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{file} is no UTF-8 text; save it as UTF-8 (Excel: as `CSV UTF-8`)") from None
    except OSError as error:
        raise UserError(f"{file}: no label file that can be read ({error.strerror})") from None
    lines = _LINE_ENDS.split(text)
    first = next((line for line in lines if line.strip()), "")
    if suffix == ".jsonl":
        entries = _read_json_lines(file, lines)
    elif suffix == ".tsv" or (suffix == ".txt" and "\t" in first):
        entries = _unquoted(file, _read_rows(file, _split_at_tabs(file, lines), folder, "a tab"))
    else:
        # Where the comma is the decimal sign, spreadsheets write semicolons.
        semicolons = not _is_understood(_first_cells(first, ","), folder) and _is_understood(
            _first_cells(first, ";"), folder
        )
        rows = _parse_csv(file, text, ";" if semicolons else ",")
        entries = _read_rows(file, rows, folder, "a semicolon" if semicolons else "a comma")
    return _check_entries(file, list(entries), folder)


def _check_entries(file: Path, entries: list[LabelEntry], folder: Path) -> LabelFile:
    seen: dict[str, LabelEntry] = {}
    root = Path(os.path.abspath(folder))
    roots = (root, root.resolve())
    for entry in entries:
        path = PurePosixPath(entry.file.replace("\\", "/"))
        if path.is_absolute():
            within = Path(os.path.normpath(path))
            start = next((start for start in roots if within.is_relative_to(start)), None)
            path = path if start is None else PurePosixPath(within.relative_to(start))
        outside = path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", entry.file)  # a drive of Windows
        if not entry.file:
            raise UserError(f"{file}, line {entry.line}: names no file; put a file name before {entry.label[:80]!r}")
        if "\0" in entry.file or outside:
            raise UserError(
                f"{file}, line {entry.line}: {entry.file!r} leads out of the folder; name files inside {folder}"
            )
        entry = entry._replace(file=_stored_name(folder, str(path)))
        first = seen.setdefault(entry.file, entry)
        if first.label != entry.label:
            raise UserError(
                f"{file}: {entry.file} is {first.label!r} in line {first.line} and {entry.label!r} in line "
                f"{entry.line}; remove one of them"
            )
    return LabelFile(file, tuple(seen.values()), len(entries) - len(seen))


def _stored_name(folder: Path, name: str) -> str:
    """Return the form of a name that a folder has: file systems and archives differ in how they store accents."""
    if name.isascii() or os.path.lexists(folder / name):
        return name
    found = folder
    for part in PurePosixPath(name).parts:
        forms = (part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD")))
        found = next((found / form for form in forms if os.path.lexists(found / form)), found / part)
    return found.relative_to(folder).as_posix()


def _split_at_tabs(file: Path, lines: list[str]) -> list[_Row]:
    rows = [_Row([cell.strip() for cell in line.split("\t")], number) for number, line in enumerate(lines, start=1)]
    for cells, line in rows:
        for cell in cells:  # spreadsheets and CSV libraries write `5" pipe` as `"5"" pipe"`
            if _QUOTED_CELL.fullmatch(cell) and any(map(str.isalnum, cell)):
                raise UserError(
                    f"{file}, line {line}: {cell[:80]} is quoted as in a csv, and here nothing is; write it as it "
                    f"stands in the picture ({cell[1:-1].replace(chr(34) * 2, chr(34))[:80]}), or write labels.csv"
                )
    return [row for row in rows if any(row.cells)]


def _unquoted(file: Path, given: Iterator[LabelEntry]) -> Iterator[LabelEntry]:
    """Pass entries on; raise `UserError` where the labels of all are quoted, and quotation marks would be learned."""
    entries = list(given)
    if len(entries) > 1 and all(is_quoted(entry.label) for entry in entries):
        raise UserError(
            f"{file}: all labels stand in quotation marks, and in a {file.suffix[1:]} nothing is quoted: they would be "
            'learned; write the labels without, or labels.csv, where `"""OPEN"""` is a word that has them'
        )
    return iter(entries)


def describe_quoted(labels: Sequence[str]) -> str:
    """Say in a line that labels stand in quotation marks; they may be there in the picture, or a spreadsheet's."""
    stand = "label stands" if len(labels) == 1 else "labels stand"
    return (
        f"{len(labels)} {stand} in quotation marks, which are taken for part of the word: {', '.join(labels[:3])}; "
        "where a spreadsheet has put them there, save its table as csv"
    )


def describe_structured(labels: Sequence[str]) -> str:
    """Say in a line that labels are JSON, as annotation tools export several words of a picture."""
    are = "label is" if len(labels) == 1 else "labels are"
    return f"{len(labels)} {are} JSON, which no picture shows: {', '.join(labels[:3])[:120]}; write the words alone"


def is_structured(label: str) -> bool:
    """Tell whether a label is a list of texts or an object of JSON; `[1]` may stand in a picture."""
    if not label.strip().startswith(("[", "{")):
        return False
    try:
        stored = json.loads(label)
    except (ValueError, RecursionError):
        return False
    return bool(stored) and (isinstance(stored, dict) or any(isinstance(each, str | list | dict) for each in stored))


def is_quoted(label: str) -> bool:
    """Tell whether a label stands in quotation marks, its own or a spreadsheet's."""
    return len(label) > 2 and label[0] == label[-1] == '"'


def _parse_csv(file: Path, text: str, delimiter: str) -> list[_Row]:
    rows, line = [], 1
    reader = _csv_reader(text, delimiter)
    try:
        for cells in reader:
            if any("\n" in cell or "\r" in cell for cell in cells):
                raise UserError(f"{file}, line {line}: a quotation mark is opened and not closed in the same line")
            if any(cell.strip() for cell in cells):
                rows.append(_Row([cell.strip() for cell in cells], line))
            line = reader.line_num + 1
    except csv.Error as error:
        row = (_LINE_ENDS.split(text)[line - 1 : line] or [""])[0]
        hint = "put whole cells in double quotes"
        if '\\"' in row:
            hint = 'write quotation marks within a cell twice (""), not as \\"'
        raise UserError(f"{file}, line {line}: can't be read as CSV ({error}); {hint}") from None
    return rows


def _csv_reader(text: str, delimiter: str) -> Any:
    # Spaces behind a quoted cell go. A whole cell is matched, so that one within it is not taken for its end.
    closed = re.sub(r'("(?:[^"]|"")*")(?:[ \t]+(?=[,;\r\n]|$))?', r"\1", text)
    return csv.reader(io.StringIO(closed, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)


def _first_cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(_csv_reader(line, delimiter), [])]
    except csv.Error:
        return []


def _is_understood(cells: list[str], folder: Path) -> bool:
    """Tell whether a first row is a header with known names or begins with a picture."""
    return len(cells) > 1 and (_find_columns(cells) is not None or _is_picture(cells[0], folder))


def _is_picture(cell: str, folder: Path) -> bool:
    return cell.lower().endswith(PICTURE_ENDINGS) or (bool(cell) and os.path.isfile(folder / cell))


def _find_columns(cells: list[str]) -> tuple[list[int], list[int]] | None:
    """Find the columns with file names and with labels in a header; None unless there are both."""
    names = [cell.lower().replace(" ", "_") for cell in cells]
    files = [number for number, name in enumerate(names) if name in FILE_COLUMNS]
    labels = [number for number, name in enumerate(names) if name in LABEL_COLUMNS]
    return (files, labels) if files and labels else None


def _read_rows(file: Path, rows: list[_Row], folder: Path, separator: str) -> Iterator[LabelEntry]:
    if not rows:
        return
    cells, line = rows[0]
    columns = _find_columns(cells)
    width, named, label = 2, 0, 1
    if columns is not None:
        if len(columns[0]) > 1 or len(columns[1]) > 1:
            doubled = [cells[number] for number in max(columns, key=len)]
            raise UserError(
                f"{file}, line {line}: {' and '.join(doubled)} may both be meant; keep one, and give the other column "
                "a name of its own"
            )
        width, (named,), (label,) = len(cells), *columns
        rows = rows[1:]
    elif len(words := cells[0].split()) > 1 and not _is_picture(cells[0], folder) and _is_picture(words[0], folder):
        raise UserError(f"{file}, line {line}: {words[0]} and its label have to be separated by {separator}")
    elif not _is_picture(cells[0], folder):
        raise UserError(
            f"{file}, line {line}: {_joined(cells)!r} is neither a header with known names nor a picture and its "
            f"label, separated by {separator}; name the columns `file` and `label`, or put the file name first"
        )
    for cells, line in rows:
        if len(cells) <= max(named, label):
            raise UserError(
                f"{file}, line {line}: needs a file name and a label, separated by {separator}, not {_joined(cells)!r}"
            )
        if len(cells) > width:
            hint = (
                "a label can't hold a tab here: remove it, or write labels.csv with such labels in double quotes"
                if separator == "a tab"
                else "put labels that hold commas or semicolons in double quotes, or write labels.tsv"
            )
            least = f"the header has {width}" if columns else "a row without a header has 2, file name and label"
            raise UserError(f"{file}, line {line}: {len(cells)} cells in {_joined(cells)!r}, but {least}; {hint}")
        yield LabelEntry(cells[named], cells[label], line)


def _joined(cells: list[str]) -> str:
    return " | ".join(cells)[:80]


def _read_json_lines(file: Path, lines: list[str]) -> Iterator[LabelEntry]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            stored = json.loads(line, object_pairs_hook=_without_repetition)
        except (ValueError, RecursionError):
            stored = None
        entry = stored if isinstance(stored, dict) else {}
        files = [entry[name] for name in FILE_COLUMNS if name in entry]
        labels = [entry[name] for name in LABEL_COLUMNS if name in entry]
        both = [*files, *labels]
        if len(files) != 1 or len(labels) != 1 or not all(isinstance(text, str) and _is_unicode(text) for text in both):
            raise UserError(
                f'{file}, line {number}: write {{"file": "word.png", "label": "word"}}, each once and with text in both'
            )
        yield LabelEntry(files[0], labels[0], number)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object of JSON, names in lower case; raises `ValueError` for one that stands in it twice."""
    entries = {name.lower(): value for name, value in pairs}
    if len(entries) < len(pairs):
        raise ValueError("a name is repeated, of which one would be lost")
    return entries


def _is_unicode(text: str) -> bool:
    """Tell whether a text can be stored: JSON may escape halves of a pair of surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in text)
