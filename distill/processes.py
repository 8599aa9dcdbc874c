"""Several processes of one run: a user's mistake in any of them is printed once, and all of them exit."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # takes seconds to import, and a single process needs none of it
    from torch.distributed import TCPStore

LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_")
"""Prefixes of the variables by which a launcher makes a process one of several."""
MISTAKE = 2
"""Exit code of a run that a user's mistake ended."""
POLL_SECONDS, CONNECT_SECONDS, PATIENCE_SECONDS = 0.2, 10.0, 5.0
"""Seconds between polls for another process's mistake, to connect to the store, and until all have seen it."""

_leaving = threading.Lock()
"""Held from when this process begins to leave: its main thread with its own mistake, or its watch with another's."""


@contextmanager
def without_main_module() -> Iterator[None]:
    """Start worker processes here that do not import the main module.

    A spawned process imports the script that was started, and one without `if __name__ == "__main__":` would train
    again in each worker. Workers get nothing that the script defines.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if getattr(main, name, None) is not None}
    try:
        for name in hidden:
            setattr(main, name, None)
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


def report_once(line: str) -> None:
    """Print a mistake on stderr, unless another process of the run was first, and wait until all know.

    A launcher ends all processes as soon as one has ended. It finds them gone, each with exit code 2.
    """
    store = _meet()
    if store is None:
        print(line, file=sys.stderr)
        return
    _leaving.acquire(blocking=False)  # the watch waits from now on, or is about to leave itself
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this process is on its way out already
    if store.add(_key(), 1) == 1:
        print(line, file=sys.stderr, flush=True)
    until = time.monotonic() + PATIENCE_SECONDS
    while store.add(_key(), 0) < _world() and time.monotonic() < until:
        time.sleep(POLL_SECONDS / 10)


def exit_with_others() -> None:
    """Watch from now on for a mistake that another process reports, and exit at once: what it waits for never comes.

    Without it a process that waits for others in a collective call would wait until that call times out.
    """
    store = _meet()
    if store is None:
        return
    ending = threading.Event()
    watch = threading.Thread(target=_watch, args=(store, ending), daemon=True)
    watch.start()

    def end() -> None:  # a thread inside of the store would take an interpreter that is ending down with a crash
        ending.set()
        watch.join(1.0)

    atexit.register(end)


def without_launcher(environment: dict[str, str]) -> dict[str, str]:
    """Return environment variables without those of the launcher, for a process that is none of several."""
    return {name: value for name, value in environment.items() if not name.startswith(LAUNCHER)}


def _watch(store: TCPStore, ending: threading.Event) -> None:
    try:
        while store.add(_key(), 0) == 0:
            if ending.wait(POLL_SECONDS):
                return
    except RuntimeError:  # the store has gone with the process that held it
        return
    _leaving.acquire()
    store.add(_key(), 1)
    os._exit(MISTAKE)


def _meet() -> TCPStore | None:
    """Connect to the store by which a launcher's processes find each other; None for a single process."""
    if _world() == 1:
        return None
    from torch.distributed import TCPStore

    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return TCPStore(
            address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=CONNECT_SECONDS)
        )
    except (KeyError, ValueError, RuntimeError):
        return None


def _world() -> int:
    return int(os.environ.get("WORLD_SIZE") or 1)


def _key() -> str:
    return f"symdistill/mistakes-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
