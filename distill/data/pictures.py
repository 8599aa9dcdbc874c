"""PictureRecords: pictures in folders as a data set without labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from distill.data.records import BadRecordError

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""File names of pictures end so."""


class PictureRecords:
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
        try:
            return self._files[position].read_bytes()
        except OSError as error:
            raise BadRecordError(f"{self.describe(position)} can't be read: {error.strerror}") from None

    def columns(self, position: int) -> bytes | None:
        """Give None: pictures in folders carry no column labels."""
        return None

    def describe(self, position: int) -> str:
        """Name a record by its file."""
        return f"{self._files[position].relative_to(self.path)} of {self.name}"

    def fingerprint(self) -> str:
        """See `Records`: from the names, sizes and times of the pictures."""
        digest = hashlib.sha256(str(self.path.resolve()).encode())
        for file in self._files:
            stat = file.stat()
            digest.update(f"{file.relative_to(self.path)}|{stat.st_size}|{stat.st_mtime_ns}".encode())
        return digest.hexdigest()[:16]


def find_pictures(folder: Path, besides: Collection[Path] = ()) -> list[Path]:
    """Find pictures at any depth by the ends of their names, sorted; hidden files and folders are left out.

    Args:
        folder: where to look; links to folders are not followed, they may lead back.
        besides: folders that are left out, with all that is in them.
    """
    found, apart = [], set(besides)
    for place, folders, files in os.walk(folder):
        inside = Path(place) not in apart
        folders[:] = [name for name in folders if inside and not name.startswith(".")]
        found += [
            Path(place, name) for name in files
            if inside and name.lower().endswith(ENDINGS) and not name.startswith(".")
        ]  # fmt: skip
    return sorted(found)
