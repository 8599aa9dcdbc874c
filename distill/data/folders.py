"""FolderRecords: a folder of pictures with a file of labels, as a data set without conversion."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from distill.data.records import BadRecordError
from students.errors import UserError

LABEL_FILES = ("labels.tsv", "labels.csv", "labels.jsonl")
"""File names that make a folder a data set."""
FILE_COLUMNS = ("file", "filename", "file_name", "image", "path")
LABEL_COLUMNS = ("label", "text", "word")


def label_file(folder: Path) -> Path | None:
    """Find the label file of an image folder; None when it has none."""
    return next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)


class FolderRecords:
    """Pictures named in a label file, with their labels.

    Args:
        path: the folder.
        labels: the label file; by default one of `LABEL_FILES` in the folder. Its ending says how it is read.

    Raises:
        UserError: for a missing or unreadable label file, or one that names files outside of the folder.
    """

    def __init__(self, path: Path, labels: Path | None = None) -> None:
        self.path, self.name = Path(path), Path(path).resolve().name
        found = labels or label_file(self.path)
        if found is None:
            raise UserError(f"{path} has no file of labels; put a {' or '.join(LABEL_FILES)} into it")
        self.label_file = found
        rows = read_labels(found)
        for number, (file, _) in enumerate(rows, start=1):
            if not _stays_inside(file):
                raise UserError(f"{found}, entry {number}: {file!r} leads out of the folder; name files inside {path}")
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def labels(self) -> Iterator[tuple[int, str | None]]:
        """See `Records`."""
        yield from ((position, label) for position, (_, label) in enumerate(self._rows))

    def label(self, position: int) -> str:
        """See `Records`."""
        return self._rows[position][1]

    def image(self, position: int) -> bytes:
        """See `Records`."""
        file = self.path / self._rows[position][0]
        # A link inside of the folder could still lead out of it.
        if not file.resolve().is_relative_to(self.path.resolve()):
            raise BadRecordError(f"{self.describe(position)} is a link that leads out of the folder")
        try:
            return file.read_bytes()
        except OSError as error:
            raise BadRecordError(f"{self.describe(position)} can't be read: {error.strerror}") from None

    def columns(self, position: int) -> bytes | None:
        """Give None: pictures in folders carry no column labels."""
        return None

    def describe(self, position: int) -> str:
        """Name a record by its file."""
        return f"{self._rows[position][0]} of {self.name}"

    def fingerprint(self) -> str:
        """See `Records`: from the names, sizes and times of label file and pictures."""
        digest = hashlib.sha256(str(self.path.resolve()).encode())
        for file in (self.label_file, *(self.path / name for name, _ in self._rows)):
            stat = file.stat() if file.is_file() else None
            digest.update(f"{file.name}|{stat and (stat.st_size, stat.st_mtime_ns)}".encode())
        return digest.hexdigest()[:16]


def read_labels(file: Path) -> list[tuple[str, str]]:
    """Read (file name, label) pairs from a tsv, csv or jsonl file.

    Tables have the file name in the first column and the label in the second, or a first line that names them
    (`file` or `filename`, `label` or `text`). In a tsv nothing is quoted, so that labels may hold quotes.

    Raises:
        UserError: for a missing file, another kind of file, or an entry without name or label.
    """
    readers = {".tsv": _read_tsv, ".txt": _read_tsv, ".csv": _read_csv, ".jsonl": _read_jsonl}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise UserError(f"{file}: labels are read from .tsv, .csv or .jsonl")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{file}: no such file of labels") from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is no UTF-8 text; save it as UTF-8") from None
    return reader(file, text)


def _stays_inside(file: str) -> bool:
    path = PurePosixPath(file.replace("\\", "/"))
    return bool(file) and not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]


def _read_tsv(file: Path, text: str) -> list[tuple[str, str]]:
    return _pairs(file, [line.split("\t") for line in text.split("\n")])


def _read_csv(file: Path, text: str) -> list[tuple[str, str]]:
    try:
        return _pairs(file, list(csv.reader(text.splitlines(keepends=True), strict=True)))
    except csv.Error as error:
        raise UserError(f"{file} can't be read as CSV: {error}") from None


def _pairs(file: Path, rows: list[list[str]]) -> list[tuple[str, str]]:
    first, second, start = 0, 1, 0
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    names = next((header.index(name) for name in FILE_COLUMNS if name in header), None)
    texts = next((header.index(name) for name in LABEL_COLUMNS if name in header), None)
    if names is not None and texts is not None:
        first, second, start = names, texts, 1
    pairs = []
    for number, row in enumerate(rows[start:], start=start + 1):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(first, second):
            raise UserError(f"{file}, line {number}: needs a file name and a label, not {','.join(row)[:60]!r}")
        pairs.append((row[first].strip(), row[second].rstrip("\r")))
    return pairs


def _read_jsonl(file: Path, text: str) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        found = entry if isinstance(entry, dict) else {}
        name = next((found[key] for key in FILE_COLUMNS if key in found), None)
        label = next((found[key] for key in LABEL_COLUMNS if key in found), None)
        if not isinstance(name, str) or not isinstance(label, str):
            raise UserError(f'{file}, line {number}: write {{"file": "word.png", "label": "word"}}, with text in both')
        pairs.append((name, label))
    return pairs
