"""Find and open sets: LMDBs and folders of pictures at any depth, and lists that cut a set from a larger one."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from distill.data.folders import FolderRecords, PictureRecords, list_names, printable, refuse_unreadable, walk_files
from distill.data.label_files import LABEL_FILES, find_label_file, has_label_file
from distill.data.lmdb_reader import DATA_FILE, LmdbRecords
from distill.data.records import LIST_SUFFIX, Records, SubsetRecords, read_list
from students.errors import UserError

TABLES = (".csv", ".tsv", ".txt", ".jsonl")
"""Endings of files that may hold labels under another name."""
EXPORTS = (".json", ".xml", ".xlsx", ".xls", ".mat")
"""Endings of files that may hold labels in another form."""
LOG = logging.getLogger(__name__)


def open_set(path: Path | str) -> Records:
    """Open one set: an LMDB, a folder of pictures with labels, a list (`SET.indices.txt`), or `SET` for its list.

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
    if path.is_file():
        raise UserError(f"{path} is a file; give a folder: an LMDB in a single file goes into one as {DATA_FILE}")
    if (path / DATA_FILE).is_file():
        return LmdbRecords(path)
    if find_label_file(path) is not None:
        return FolderRecords(path)
    raise UserError(f"{path} holds neither an LMDB ({DATA_FILE}) nor pictures with {', '.join(LABEL_FILES)}")


def open_sets(root: Path | str) -> list[Records]:
    """Open every LMDB and every folder of labelled pictures at or below a folder, sorted by path.

    Raises:
        UserError: when there are none, or one can't be read.
    """
    sets: list[Records] = [open_set(folder) for folder in find_sets(root)]
    if not sets:
        tables = [path for path in Path(root).rglob("*") if may_hold_labels(path)]
        near = min(tables, key=lambda path: (path.stem.lower() != "labels", path), default=None)
        hint = ""
        if near is not None:
            verb = "call it" if near.suffix.lower() in TABLES else "save its labels as"
            hint = f"; {near} is no label file by its name: {verb} labels.tsv, .csv or .jsonl"
        elif has_label_file(above := Path(root).resolve().parent):
            hint = f"; a label file lies in {above}: give that folder"
        names = f"{', '.join(LABEL_FILES[:-1])} or {LABEL_FILES[-1]}"
        raise UserError(f"{root} holds no LMDB ({DATA_FILE}) and no pictures with {names}, at any depth{hint}")
    return sets


def may_hold_labels(path: Path) -> bool:
    """Tell whether a file that is no label file by its name may be one, or an export of an annotation tool."""
    suffix, exported = path.suffix.lower(), path.stem.lower() in ("label", "labels") and path.suffix.lower() in EXPORTS
    return (suffix in TABLES or exported) and path.is_file()


def open_all(root: Path | str) -> list[Records]:
    """Open all sets as `open_sets` does, and as further ones the pictures without labels.

    These are pictures in a folder whose label file doesn't name them, and those that belong to no set.

    Raises:
        UserError: when there are neither, or a set can't be read.
    """
    folders = find_sets(root)
    pictures = walk_files(Path(root), folders).pictures
    sets: list[Records] = []
    for folder in folders:
        records = open_set(folder)
        sets.append(records)
        if unlisted := records.unlisted():
            sets.append(PictureRecords(folder, [folder / name for name in unlisted]))
    if pictures:
        sets.append(PictureRecords(Path(root), pictures))
    if not sets:
        raise UserError(f"{root} holds no LMDB ({DATA_FILE}) and no pictures, at any depth")
    return sets


def open_words(path: Path | str, labelled: bool = True) -> list[Records]:
    """Open what a source of words names: one set by its list, or all sets at or below a folder.

    Args:
        path: the list, the set that a list cuts out, or the folder.
        labelled: whether the words need labels of their own.

    Raises:
        UserError: see `open_set`, `open_sets` and `open_all`.
    """
    path = Path(path)
    if path.name.endswith(LIST_SUFFIX) or not path.exists():
        return [open_set(path)]
    if not labelled:
        return open_all(path)
    sets = open_sets(path)
    for line in describe_loose(path, sets):
        LOG.warning("%s: %s", path, line)
    return sets


def describe_loose(root: Path | str, sets: Sequence[Records]) -> list[str]:
    """Say in lines which pictures below a folder have no label, and how many entries of label files repeat another."""
    lines = []
    folder = Path(root)  # or a list, or the set that one cuts out
    if loose := walk_files(folder, [records.path for records in sets]).pictures if folder.is_dir() else []:
        names = ", ".join(LABEL_FILES)
        lines.append(f"{len(loose)} pictures belong to no set, for want of a label file ({names}): {list_names(loose)}")
    for records in sets:
        if unlisted := records.unlisted():
            lines.append(f"{records.name}: {len(unlisted)} pictures have no label: {list_names(unlisted)}")
        if records.repeated:
            lines.append(f"{records.name}: {records.repeated} entries repeat a picture with its label and count once")
    return lines


def find_sets(root: Path | str, lists: bool = False, skip: Collection[str] = ()) -> list[Path]:
    """Find the sets at or below a folder, sorted; one that is reached by several paths is given once, by its own.

    Args:
        root: where to look; links are followed.
        lists: include lists, by their paths without the suffix.
        skip: folders in `root` that are passed over.

    Raises:
        UserError: when there is no such folder, one can't be opened, or a set lies in a folder of labelled pictures.
    """
    root = Path(root)
    if root.is_file():
        raise UserError(f"{root} is a file; give the folder that holds it")
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give one that holds LMDBs, at any depth")
    by_content: dict[str, tuple[bool, Path]] = {}
    seen: set[str] = set()
    for parent, folders, files in os.walk(root, onerror=refuse_unreadable, followlinks=True):
        # Hidden folders are sets that are still being written; a link may lead back to where the walk has been.
        apart = skip if Path(parent) == root else ()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in apart)
        sets = [Path(parent, name.removesuffix(LIST_SUFFIX)) for name in files if lists and name.endswith(LIST_SUFFIX)]
        real = os.path.realpath(parent)
        if is_set(Path(parent)):
            sets.append(Path(parent))
            refuse_inner_set(Path(parent))
            folders.clear()
        elif real in seen:
            folders.clear()
            continue
        seen.add(real)
        for path in sets:
            stored = _stored_in(path)
            content = os.path.realpath(stored)
            linked = content != os.path.join(os.path.realpath(root), os.path.relpath(stored, root))
            by_content[content] = min((linked, path), by_content.get(content, (True, path)))
    return sorted({path for _, path in by_content.values()})


def is_set(path: Path) -> bool:
    """Tell whether a folder is one set: an LMDB or pictures with labels."""
    return (path / DATA_FILE).is_file() or has_label_file(path)


def refuse_inner_set(folder: Path) -> None:
    """Raise `UserError` when a set lies below a set: which pictures are whose would be guessed."""
    for parent, folders, _ in os.walk(folder, onerror=refuse_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for inner in (Path(parent, name) for name in folders):
            if is_set(inner):
                raise UserError(
                    f"{printable(folder)} is a set, and so is {printable(inner)} inside it; move one of them elsewhere"
                )


def _stored_in(path: Path) -> Path:
    """Return the file or folder that holds the words: paths to the same are one set."""
    if (path / DATA_FILE).is_file():
        return path / DATA_FILE
    return path if has_label_file(path) else path.with_name(path.name + LIST_SUFFIX)


def _cut(file: Path) -> Records:
    """Cut a listed set from the set beside it with the same prefix before the underscore and the largest count."""
    positions = read_list(file)
    prefix = file.name.removesuffix(LIST_SUFFIX).rpartition("_")[0]
    beside = [
        LmdbRecords(folder)
        for folder in sorted(file.parent.glob("*/"))
        if prefix and folder.name.rpartition("_")[0] == prefix and (folder / DATA_FILE).is_file()
    ]
    larger = max((records for records in beside if len(records) > len(positions)), key=len, default=None)
    if larger is None:
        expected = f"{prefix}_COUNT" if prefix else "the larger set"
        raise UserError(
            f"{file} lists {len(positions)} records, but {expected} with more records is not beside it; put it there"
        )
    if max(positions) >= len(larger):
        raise UserError(f"{file} names record {max(positions) + 1}, but {larger.name} has {len(larger)} records")
    return SubsetRecords(larger, positions, file.name.removesuffix(LIST_SUFFIX), file)
