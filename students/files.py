"""Files and folders that appear whole or not at all: written beside their place, synced, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from students.errors import UserError

_LEFT = re.compile(r"\.(?P<place>.+)\.\d+\.(?P<kind>partial|replaced)")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOLD = re.compile(
    rf"\(os error ({'|'.join(map(str, _NO_ROOM))})\)|inline_container|PytorchStreamWriter|basic_ios::clear"
)
"""How safetensors and torch, whose errors carry no number, tell that a file could not be written."""


def check_output(
    folder: Path, overwrite: bool, kind: str, holds: Callable[[Path], bool], option: str = "--out", instead: str = ""
) -> None:
    """Refuse an output folder that can't be created, or that holds what must not be replaced; writes nothing.

    A folder that is empty is as good as none.

    Args:
        folder: the output folder.
        overwrite: whether what it holds may be replaced.
        kind: what may be replaced, such as `an LMDB`.
        holds: tells whether a folder holds that.
        option: the argument that names another folder.
        instead: what else would work for a folder that exists, such as `continue it with --resume auto, `.

    Raises:
        UserError: naming what is in the way.
    """
    if not folder.exists():
        parent = next(each for each in folder.absolute().parents if each.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise UserError(f"{folder} can't be created: {parent} is no folder to write into; give another {option}")
    elif not folder.is_dir():
        raise UserError(f"{folder} is a file; give another {option}")
    elif not any(folder.iterdir()):
        return
    elif not overwrite:
        raise UserError(f"{folder} exists; {instead}replace it with --overwrite, or give another {option}")
    elif not holds(folder):
        raise UserError(
            f"{folder} exists and holds other things than {kind}; it is not replaced, give another {option}"
        )


@contextmanager
def replacing(place: Path) -> Iterator[Path]:
    """Give a path beside `place` for a file or a folder, which gets the name when the block ends without an error.

    What was there before stays until then; after an error nothing is left behind.

    Raises:
        OSError: when it can't be written.
    """
    beside = beside_of(place)
    remove(beside)  # of an earlier process of this number that was killed
    try:
        yield beside
        put_in_place(beside, place)
    finally:
        remove(beside)


def write_file(place: Path, content: str | bytes) -> None:
    """Write a file, as `replacing` does; text is stored as UTF-8."""
    with replacing(place) as beside:
        beside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def beside_of(place: Path) -> Path:
    """Name where what `place` shall be is written until it is whole: hidden, and another in every process."""
    return place.with_name(f".{place.name}.{os.getpid()}.partial")


def put_in_place(beside: Path, place: Path) -> None:
    """Give a finished file or folder its name; a folder that is there is moved aside first, and removed at last."""
    sync(beside)  # a name that outlives a power cut must not stand for content that doesn't
    old = place.with_name(f".{place.name}.{os.getpid()}.replaced")
    if place.is_dir():
        remove(old)
        os.replace(place, old)
    os.replace(beside, place)
    sync_folder(place.parent)
    remove(old)


def mend(folder: Path) -> None:
    """Put a folder in order in which a process may have been killed: what it had moved aside comes back.

    What had not got its name is removed. Nobody else may write there meanwhile.
    """
    for left in list(folder.glob(".*")):
        found = _LEFT.fullmatch(left.name)
        if found is None:
            continue
        if found["kind"] == "replaced" and not (folder / found["place"]).exists():
            os.replace(left, folder / found["place"])
        remove(left)


def is_full(error: Exception) -> bool:
    """Tell whether something could not be written for want of room, on the disk or under a quota."""
    return error.errno in _NO_ROOM if isinstance(error, OSError) else _TOLD.search(str(error)) is not None


def sync(path: Path) -> None:
    """Wait until a file, or all that a folder holds, is on the disk."""
    for each in (path, *path.rglob("*")):
        sync_folder(each) if each.is_dir() else _sync(each)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "posix":  # elsewhere a folder can't be opened
        _sync(folder)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
