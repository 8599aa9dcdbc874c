"""Folders of pictures as data sets: with a label file, or without labels; and the search for pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.data.label_files import LABEL_FILES, find_label_file, read_label_file
from distill.data.records import BadRecordError, Records
from students.errors import UserError
from students.pictures import PICTURE_ENDINGS

CACHE_FOLDERS = ("blobs", "objects", "md5")
"""Folders of download caches that hold the contents which data sets are links to."""


class FolderRecords(Records):
    """Pictures named in a label file, with their labels.

    Args:
        path: the folder.
        labels: the label file; by default the one of `LABEL_FILES` that the folder has. Its ending says how it is read.

    Raises:
        UserError: when there is no label file, or several, or it can't be read (see `read_label_file`).
    """

    def __init__(self, path: Path, labels: Path | None = None) -> None:
        self.path, self.name = Path(path), Path(path).resolve().name
        file = labels or find_label_file(self.path)
        if file is None:
            raise UserError(f"{path} has no label file; put a {' or '.join(LABEL_FILES)} into it")
        self.label_file = read_label_file(file, self.path)
        self.repeated = self.label_file.repeated
        self._unlisted: list[str] | None = None
        self._entries = self.label_file.entries
        self._own, self._cache = self.path.resolve(), _cache_of(self.path, file)

    def __len__(self) -> int:
        return len(self._entries)

    def labels(self) -> Iterator[tuple[int, str | None]]:
        """See `Records`."""
        yield from ((position, entry.label) for position, entry in enumerate(self._entries))

    def label(self, position: int) -> str:
        """See `Records`."""
        return self._entries[position].label

    def image(self, position: int) -> bytes:
        """See `Records`."""
        file = self.path / self._entries[position].file
        target = file.resolve()
        if not target.is_relative_to(self._own) and not (self._cache and target.is_relative_to(self._cache)):
            raise BadRecordError(f"{self.describe(position)} is a link that leads out of the folder, to {target}")
        return read_bytes(file, self.describe(position))

    def exists(self, position: int) -> bool:
        """Tell whether the picture of a record is there, readable or not."""
        return os.path.lexists(self.path / self._entries[position].file)

    def missing(self) -> Sequence[int]:
        """See `Records`."""
        return [position for position in range(len(self)) if not self.exists(position)]

    def describe(self, position: int) -> str:
        """Name a record by its file."""
        return f"{printable(self._entries[position].file)} of {self.name}"

    def fingerprint(self) -> str:
        """See `Records`: from the label file, and names, sizes and times of the pictures."""
        return fingerprint_files(
            self.path, [self.label_file.path, *(self.path / entry.file for entry in self._entries)]
        )

    def unlisted(self) -> list[str]:
        """See `Records`."""
        if self._unlisted is None:
            listed, found = {self.path / entry.file for entry in self._entries}, walk_files(self.path).pictures
            self._unlisted = [str(file.relative_to(self.path)) for file in found if file not in listed]
        return self._unlisted


class PictureRecords(Records):
    """Pictures whose words nobody has written down, in their order.

    Args:
        path: the folder they lie in or below.
        files: the pictures.
    """

    def __init__(self, path: Path, files: Collection[Path]) -> None:
        self.path, self.name = Path(path), Path(path).resolve().name
        self._files = list(files)

    def __len__(self) -> int:
        return len(self._files)

    def labels(self) -> Iterator[tuple[int, str | None]]:
        """See `Records`."""
        yield from ((position, None) for position in range(len(self)))

    def label(self, position: int) -> str:
        """Refuse: there are none."""
        raise BadRecordError(f"{self.describe(position)} has no label")

    def image(self, position: int) -> bytes:
        """See `Records`."""
        return read_bytes(self._files[position], self.describe(position))

    def describe(self, position: int) -> str:
        """Name a record by its file."""
        return f"{printable(self._files[position].relative_to(self.path))} of {self.name}"

    def fingerprint(self) -> str:
        """See `Records`: from the names, sizes and times of the pictures."""
        return fingerprint_files(self.path, self._files)


@dataclass(frozen=True)
class PictureSearch:
    """The files that a search for pictures came upon."""

    pictures: list[Path]
    """Files whose names end as pictures do (`PICTURE_ENDINGS`)."""
    others: list[Path]
    """All other files but label files, those with such names that are no files (broken links, pipes), and links to
    folders, which are not followed."""


def find_pictures(paths: Sequence[str | Path]) -> PictureSearch:
    """List picture files: files as they are given, whatever their names, and folders walked through.

    Raises:
        UserError: when a path does not exist or a folder has no pictures.
    """
    pictures: list[Path] = []
    others: list[Path] = []
    for given in paths:
        path = Path(given)
        if not os.path.isdir(path):
            if not os.path.exists(path):
                hint = "download it first, and " if "://" in str(given) else ""
                raise UserError(
                    f"{given}: no such file or folder; {hint}give pictures of one word each, or folders of them"
                )
            pictures.append(path)
            continue
        files = walk_files(path)
        if not files.pictures:
            raise UserError(f"{path}: no pictures in this folder (.png, .jpg, .tif, .webp and others)")
        pictures += files.pictures
        others += files.others
    return PictureSearch(pictures, others)


def list_names(files: Sequence[str | Path], most: int = 20) -> str:
    """Name up to `most` files, and count the rest."""
    names = ", ".join(map(printable, files[:most]))
    return names if len(files) <= most else f"{names} and {len(files) - most} more"


def printable(name: str | Path) -> str:
    """Write a file's name so that it can be printed and stored, with escapes for bytes that are no UTF-8."""
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace")


def refuse_unreadable(error: OSError) -> None:
    """Stop a walk through folders at one that can't be opened, whose pictures would be missed; raises `UserError`."""
    raise UserError(f"{printable(error.filename)} can't be opened ({error.strerror}); allow it, or move it elsewhere")


def walk_files(folder: Path, skip: Collection[Path] = ()) -> PictureSearch:
    """Find pictures at any depth by the endings of their names; hidden files and folders are passed over.

    Args:
        folder: where to look; links to folders are not followed, they may lead back, and count as other files.
        skip: folders that are passed over, with all that is in them.

    Raises:
        UserError: when a folder can't be opened.
    """
    pictures, others, apart = [], [], set(skip)
    for parent, folders, files in os.walk(folder, onerror=refuse_unreadable):
        inside = Path(parent) not in apart
        links = [Path(parent, name) for name in folders if inside and not name.startswith(".")]
        others += [link for link in links if link.is_symlink() and link not in apart]
        folders[:] = [name for name in folders if inside and not name.startswith(".")]
        for file in (Path(parent, name) for name in files if inside and not name.startswith(".")):
            if file.suffix.lower() in PICTURE_ENDINGS and file.is_file():
                pictures.append(file)
            elif file.name not in LABEL_FILES:
                others.append(file)
    return PictureSearch(sorted(pictures), sorted(others))


def read_bytes(file: Path, description: str) -> bytes:
    """Read a picture file; raises `BadRecordError` when that fails."""
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for without end
            raise BadRecordError(f"{description} is no ordinary file")
        return file.read_bytes()
    except OSError as error:
        raise BadRecordError(f"{description} can't be read: {error.strerror}") from None


def fingerprint_files(folder: Path, files: Collection[Path]) -> str:
    """Hash the names below a folder, sizes and times of files; a missing one counts as such."""
    digest = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape"))
    for file in files:
        stat = file.stat() if os.path.isfile(file) else None  # a name that is too long is none
        name = os.path.relpath(file, folder).encode("utf-8", "surrogateescape")
        digest.update(name + f"|{stat and (stat.st_size, stat.st_mtime_ns)}\n".encode())
    return digest.hexdigest()[:16]


def _cache_of(folder: Path, label_file: Path) -> Path | None:
    """Find the download cache that a data set is a folder of links to; None when it is none.

    The label file is a link then, as the pictures are: to a file in `blobs` (the Hugging Face hub) or in another folder
    of contents, `objects` (git-annex, git-lfs) or `md5` (dvc), with folders inside; else beside the pictures' files.
    """
    if not label_file.is_symlink() or label_file.parent.resolve() != folder.resolve():
        return None
    target = label_file.resolve()
    return next((parent for parent in target.parents if parent.name in CACHE_FOLDERS), target.parent)
