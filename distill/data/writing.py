"""Write LMDBs of words, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import lmdb
from typing_extensions import Self

from distill.data.lmdb_reader import DATA_FILE, DISTRIBUTIONS
from students.errors import UserError
from students.files import check_output, put_in_place, remove, temporary_path

_WRITTEN = {
    DATA_FILE, "lock.mdb", "labels.index", "recipe.json", "label.json", "doubtful.tsv", "doubtful.png", "mistakes.tsv",
    "mistakes.png",
}  # fmt: skip
_CACHES = ("pixels-", "readable-", ".")
"""What the names of cached pixels, and of files that are being written, begin with."""
_FIRST_SIZE = 64 * 2**20
_RECORDS_A_TRANSACTION = 1000
_LEAST_FREE = 2**20
"""Bytes that can still be written unless a disk, a quota or a limit is why a write has failed."""


class LmdbWriter:
    """Write words one after the other; the LMDB appears under its name when the block ends without an error.

    Args:
        folder: the LMDB's folder.
        overwrite: replace an LMDB that is there.

    Raises:
        UserError: when the folder exists (with `overwrite`: and is neither empty nor an LMDB's).
    """

    def __init__(self, folder: Path | str, overwrite: bool = False) -> None:
        self.folder, self.count = Path(folder), 0
        check_lmdb_folder(self.folder, overwrite)
        self._pending: list[tuple[bytes, bytes]] = []
        self._beside = temporary_path(self.folder)
        self._environment: lmdb.Environment | None = None

    def __enter__(self) -> Self:
        """Start to write, in a hidden folder beside it."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        remove(self._beside)
        self._beside.mkdir()
        # Nobody reads before it is synced and renamed at the end, so no commit in between waits for the disk.
        self._environment = lmdb.open(str(self._beside), map_size=_FIRST_SIZE, lock=False, sync=False, readahead=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Finish and rename; after an error, leave nothing behind."""
        try:
            try:
                if error is None:
                    self._pending.append((b"num-samples", b"%d" % self.count))
                    self._commit()
                    self._opened.sync(True)
            finally:
                self._opened.close()
            if error is None:
                put_in_place(self._beside, self.folder)
        finally:
            remove(self._beside)

    @property
    def beside(self) -> Path:
        """The folder that is being written, for files beside the LMDB that appear together with it."""
        return self._beside

    def add(
        self, image: bytes, label: str, columns: bytes | None = None, distribution: bytes | None = None,
        confidence: float | None = None,
    ) -> None:  # fmt: skip
        """Add one word.

        Args:
            image: the encoded picture.
            label: its label.
            columns: the ASCII codes of the characters under its 32 columns.
            distribution: the distributions over its characters, packed.
            confidence: how sure whoever read it was, 0 to 1.
        """
        self.count += 1
        self._pending.append((b"image-%09d" % self.count, image))
        self._pending.append((b"label-%09d" % self.count, label.encode("utf-8")))
        if columns is not None:
            self._pending.append((b"columns-%09d" % self.count, columns))
        if distribution is not None:
            self._pending.append((b"distribution-%09d" % self.count, distribution))
        if confidence is not None:
            self._pending.append((b"confidence-%09d" % self.count, b"%.6f" % confidence))
        if self.count % _RECORDS_A_TRANSACTION == 0:
            self._commit()

    def describe_distributions(self, content: bytes) -> None:
        """Say of what kind the distributions are."""
        self._pending.append((DISTRIBUTIONS, content))

    @property
    def _opened(self) -> lmdb.Environment:
        if self._environment is None:
            raise RuntimeError("LmdbWriter is used in a `with` block")
        return self._environment

    def _commit(self) -> None:
        while True:
            try:
                with self._opened.begin(write=True) as transaction, transaction.cursor() as cursor:
                    cursor.putmulti(sorted(self._pending))
                self._pending.clear()
                return
            except lmdb.MapFullError:
                self._opened.set_mapsize(2 * self._opened.info()["map_size"])
            except lmdb.Error as error:  # it says no more than `Input/output error`
                self._raise_if_full(error)
                raise

    def _raise_if_full(self, error: lmdb.Error) -> None:
        """Raise the `OSError` that a disk, a quota or a limit on files gives, if that is why a write has failed."""
        try:
            with (self._beside / DATA_FILE).open("ab") as file:  # which is thrown away
                file.write(bytes(_LEAST_FREE))
        except OSError as full:
            raise OSError(full.errno, full.strerror, str(self.folder)) from error


def check_lmdb_folder(folder: Path, overwrite: bool) -> None:
    """Refuse an output folder that exists, or, to be overwritten, one that holds something else than an LMDB.

    Raises:
        UserError: naming what is in the way.
    """
    check_output(folder, overwrite, "an LMDB", _holds_lmdb, "folder", renamed=True)


def check_outside(out: Path, data: Path) -> None:
    """Refuse to write where words are read: what was written would be among them the next time, or replace them.

    Raises:
        UserError: when `out` is `data` or lies in it.
    """
    if out.resolve().is_relative_to(data.resolve()):
        raise UserError(f"{out} is, or lies in, {data}, whose pictures are read; give a place outside of it")


def _holds_lmdb(folder: Path) -> bool:
    """Tell whether a folder holds an LMDB and nothing that this project has not written beside it."""
    names = {file.name for file in folder.iterdir()}
    return DATA_FILE in names and all(name in _WRITTEN or name.startswith(_CACHES) for name in names)
