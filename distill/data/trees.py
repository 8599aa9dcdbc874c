"""Finding sets: LMDBs and image folders at any depth, and lists that cut a set from a larger one."""

from __future__ import annotations

import os
from pathlib import Path

from distill.data.folders import LABEL_FILES, FolderRecords, label_file
from distill.data.lmdb_reader import DATA_FILE, LmdbRecords
from distill.data.pictures import PictureRecords, find_pictures
from distill.data.records import LIST_SUFFIX, Records, cut_by_list, read_list
from students.errors import UserError


def open_set(path: Path | str) -> Records:
    """Open one set: an LMDB, an image folder, a list (`SET.indices.txt`), or `SET` where there is only its list.

    Raises:
        UserError: when there is nothing of these.
    """
    path = Path(path)
    if path.name.endswith(LIST_SUFFIX):
        return _cut(path)
    if not path.exists():
        listed = path.with_name(path.name + LIST_SUFFIX)
        if listed.is_file():
            return _cut(listed)
        raise UserError(f"{path}: no such folder; give the folder of an LMDB, or one of pictures with {LABEL_FILES[0]}")
    if (path / DATA_FILE).is_file():
        return LmdbRecords(path)
    if label_file(path) is not None:
        return FolderRecords(path)
    raise UserError(f"{path} holds neither an LMDB ({DATA_FILE}) nor pictures with {', '.join(LABEL_FILES)}")


def find_sets(root: Path | str) -> list[Records]:
    """Open every LMDB and image folder at or below a folder, sorted by path.

    Raises:
        UserError: when there are none, or one can't be read.
    """
    found: list[Records] = [open_set(folder) for folder in _folders(_existing(root))]
    if not found:
        raise UserError(f"{root} holds no LMDB ({DATA_FILE}) and no pictures with {LABEL_FILES[0]}, at any depth")
    return found


def find_all(root: Path | str) -> list[Records]:
    """Open all sets as `find_sets` does, and as one more set the pictures that belong to none, which have no labels.

    Raises:
        UserError: when there are neither, or a set can't be read.
    """
    place = _existing(root)
    folders = _folders(place)
    pictures = find_pictures(place, folders)
    found: list[Records] = [open_set(folder) for folder in folders]
    if pictures:
        found.append(PictureRecords(place, pictures))
    if not found:
        raise UserError(f"{root} holds no LMDB ({DATA_FILE}) and no pictures, at any depth")
    return found


def is_set(path: Path) -> bool:
    """Tell whether a folder is one set: an LMDB or pictures with labels."""
    return (path / DATA_FILE).is_file() or label_file(path) is not None


def _existing(root: Path | str) -> Path:
    if not Path(root).is_dir():
        raise UserError(f"{root}: no such folder; give one that holds LMDBs, at any depth")
    return Path(root)


def _folders(root: Path) -> list[Path]:
    found, seen = [], set()
    for place, folders, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        # Hidden folders are sets that are still being written; a link may lead back to where the walk has been.
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if real not in seen else []
        if real not in seen and is_set(Path(place)):
            found.append(Path(place))
            folders.clear()
        seen.add(real)
    return sorted(found)


def _cut(file: Path) -> Records:
    """Cut a listed set from the set beside it with the same prefix before the underscore and the largest count."""
    count = len(read_list(file))
    prefix = file.name.removesuffix(LIST_SUFFIX).rpartition("_")[0]
    beside = [
        LmdbRecords(folder)
        for folder in sorted(file.parent.glob("*/"))
        if prefix and folder.name.rpartition("_")[0] == prefix and (folder / DATA_FILE).is_file()
    ]
    larger = max((records for records in beside if len(records) > count), key=len, default=None)
    if larger is None:
        wanted = f"{prefix}_COUNT" if prefix else "the larger set"
        raise UserError(f"{file} lists {count} records, but {wanted} with more records is not beside it; put it there")
    return cut_by_list(file, larger)
