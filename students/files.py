"""Write files and folders atomically: under another name first, synced, then renamed."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from students.errors import UserError

LONGEST_NAME = 255
"""Bytes of a file's name that common file systems take."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.\d+\.(?P<kind>partial|replaced)")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WRITE_ERROR = re.compile(
    rf"\(os error ({'|'.join(map(str, _DISK_FULL))})\)|inline_container|PytorchStreamWriter|basic_ios::clear"
)
"""Messages of safetensors and torch, whose errors carry no number, when a file could not be written."""


def check_output(
    folder: Path,
    overwrite: bool | None,
    kind: str,
    holds: Callable[[Path], bool],
    option: str = "--out",
    instead: str = "",
    renamed: bool = False,
) -> None:
    """Refuse an output folder that can't be created, or that holds what must not be replaced; writes nothing.

    A folder that is empty is as good as none.

    Args:
        folder: the output folder.
        overwrite: whether what it holds may be replaced; None where that can't be asked for.
        kind: what may be replaced, such as `an LMDB`.
        holds: tells whether a folder holds that.
        option: the argument that names another folder.
        instead: what else would work for a folder that exists, such as `continue it with --resume auto, `.
        renamed: the folder is written beside this one and put in its place, so that the folder around it has to be
            writable; otherwise files are written into it.

    Raises:
        UserError: naming what is in the way.
    """
    if not folder.name or folder.resolve() == Path.cwd():
        raise UserError(f"{folder} is the folder that you are in; give one with a name of its own")
    if len(os.fsencode(temporary_path(folder).name)) > LONGEST_NAME:
        raise UserError(f"{option} {folder.name[:40]}...: the name is too long; give a shorter one")
    if not folder.exists():
        parent = next(each for each in folder.absolute().parents if each.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise UserError(f"{folder} can't be created: {parent} is no folder to write into; give another {option}")
    elif not folder.is_dir():
        raise UserError(f"{folder} is a file; give another {option}")
    elif not os.access(folder, os.W_OK):
        raise UserError(f"{folder} can't be written to; give another {option}")
    elif renamed and (os.path.ismount(folder) or not os.access(folder.absolute().parent, os.W_OK)):
        raise UserError(f"{folder} can't be replaced as a whole; give a folder in it, such as {folder / 'new'}")
    elif not any(folder.iterdir()):
        return
    elif overwrite is None:
        raise UserError(f"{folder} exists; {instead}give another {option}")
    elif not holds(folder):
        raise UserError(
            f"{folder} exists and holds other things than {kind}; it is not replaced, give another {option}"
        )
    elif not overwrite:
        raise UserError(f"{folder} exists; {instead}replace it with --overwrite, or give another {option}")


def check_file(file: Path, option: str, overwrite: bool = True) -> None:
    """Refuse a file that can't be written, or mustn't be replaced, before there is anything to write.

    Args:
        file: the file.
        option: the argument that names another one.
        overwrite: whether a file that exists may be replaced.

    Raises:
        UserError: naming what would work.
    """
    folder = file.resolve().parent
    if (file.exists() and not file.is_file()) or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"{file} can't be written; give {option} a file in a folder that exists and may be written to")
    if file.exists() and not overwrite:
        raise UserError(f"{file} exists; replace it with --overwrite, or give another {option}")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` for a file or a folder, renamed when the block ends without an error.

    A file or folder of that name stays until then; after an error nothing is left behind.

    Raises:
        OSError: when it can't be written.
    """
    beside = temporary_path(target)
    remove(beside)  # of an earlier process of this number that was killed
    try:
        yield beside
        put_in_place(beside, target)
    finally:
        remove(beside)


def write_file(target: Path, content: str | bytes) -> None:
    """Write a file atomically; text is stored as UTF-8."""
    with replacing(target) as beside:
        beside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def temporary_path(target: Path) -> Path:
    """Return the temporary name of a file or folder until it is complete: hidden, and different in every process."""
    return target.with_name(f".{target.name}.{os.getpid()}.partial")


def put_in_place(beside: Path, target: Path) -> None:
    """Rename a finished file or folder; a folder of that name is moved aside first and removed at the end."""
    sync(beside)  # after a power cut a name must not stand for content that is lost
    old = target.with_name(f".{target.name}.{os.getpid()}.replaced")
    if target.is_dir():
        remove(old)
        os.replace(target, old)
    os.replace(beside, target)
    sync_folder(target.parent)
    remove(old)


def repair(folder: Path) -> None:
    """Repair a folder in which a process was killed while writing: what it had moved aside is moved back.

    Unfinished files are removed. No other process may write there meanwhile.
    """
    for path in list(folder.glob(".*")):
        match = _TEMPORARY.fullmatch(path.name)
        if match is None:
            continue
        if match["kind"] == "replaced" and not (folder / match["name"]).exists():
            os.replace(path, folder / match["name"])
        remove(path)


def is_full(error: Exception) -> bool:
    """Whether an error means that the disk, or a quota, is full."""
    return error.errno in _DISK_FULL if isinstance(error, OSError) else _WRITE_ERROR.search(str(error)) is not None


def sync(path: Path) -> None:
    """Wait until a file, or everything in a folder, is on the disk."""
    for each in (path, *path.rglob("*")):
        sync_folder(each) if each.is_dir() else _sync(each)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    if os.name == "posix":  # elsewhere folders can't be opened
        _sync(folder)


def remove(path: Path) -> None:
    """Remove a file, or a folder with everything in it, if it exists."""
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
