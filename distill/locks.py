"""Locks between processes, released by the system when a process ends, however it ends.

The package filelock would leave its files behind in the folders of users' data, and waits for ever for a file that it
can't create.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # not on Windows: two processes may then do the same at once
    fcntl = None  # type: ignore[assignment]


@contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """Run the block in one process after the other; the first creates what the others then use.

    Args:
        file: the lock, in a folder that exists; it is gone afterwards.
    """
    with file.open("ab") as handle:
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks: what is created is complete, if perhaps twice
                fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def acquire_lock(file: Path, patience: float) -> IO[bytes] | None:
    """Acquire a lock until the returned handle is closed or this process ends; None when another process has it.

    Args:
        file: the lock, in a folder that exists.
        patience: seconds to wait for the other to end.
    """
    handle = file.open("ab")
    until = time.monotonic() + patience
    while not _taken(handle):
        if time.monotonic() > until:
            handle.close()
            return None
        time.sleep(0.1)
    return handle


def _taken(handle: IO[bytes]) -> bool:
    if fcntl is None:
        return True
    try:
        # Unlike flock this is not inherited: loader processes that outlive a killed run for a moment don't hold it.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass  # a file system without locks
    return True
