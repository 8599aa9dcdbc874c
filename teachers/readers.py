"""Readers of every kind by one name: `load_reader` opens a folder by the `format` in its config.json."""

from __future__ import annotations

from pathlib import Path

from students.ctc import CtcReader
from students.errors import UserError
from students.parseq import Parseq
from students.pretrained import locate, read_stored, shipped
from students.reading import Reader
from students.student import Student
from teachers.clip4str import Clip4Str

READERS: dict[str, type[Reader]] = {kind.FORMAT: kind for kind in (Student, CtcReader, Parseq, Clip4Str)}
"""The kinds of readers by what their folders say under `format`."""


def load_reader(name_or_folder: str | Path) -> Reader:
    """Load a shipped student by name, a reader's folder, or a hub repository, in eval mode.

    Raises:
        UserError: when there is none, its files are broken, or it is of no known kind.
    """
    folder = locate(name_or_folder)
    kind = read_stored(folder)["format"]
    if kind not in READERS:
        known = ", ".join(READERS)
        raise UserError(f"{folder / 'config.json'} says {kind!r} as its format, which is no reader's; give {known}")
    return READERS[kind].from_pretrained(folder)


def is_reader(name_or_folder: str | Path) -> bool:
    """Tell whether a name is that of a shipped student or of a reader's folder, by its config.json alone."""
    if str(name_or_folder) in shipped():
        return True
    try:
        return Path(name_or_folder).is_dir() and read_stored(Path(name_or_folder))["format"] in READERS
    except UserError:
        return False
