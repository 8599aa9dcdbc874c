"""Stopping on request: SIGTERM, SIGUSR1 and Ctrl-C let the running step end, then the run saves and leaves."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING

from typing_extensions import Self

if TYPE_CHECKING:  # takes seconds to import, and a parent may end before
    from accelerate import Accelerator

STOPPED = 75
"""Exit code of a run that saved and stopped on request (EX_TEMPFAIL: try again, with --resume auto)."""
POLL_SECONDS, GRACE_SECONDS = 0.5, 20.0
"""Seconds between two checks whether the parent lives, and for saving once it does not."""


def stop_with_parent(parent: int) -> None:
    """Watch, in a thread, for the end of the process that started this one, and stop then as if asked to.

    This covers a killed parent too: otherwise a resumed run would start a second baseline beside the first. Where
    processes have no parent (Windows) this one goes on.

    Args:
        parent: the parent's number, as the parent knows it; it may be gone already.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_SECONDS)
        os._exit(STOPPED)

    threading.Thread(target=watch, daemon=True).start()


class StoppedError(BaseException):
    """The process was asked to stop inside a `StopRequest` that does so at once."""


class StopRequest:
    """Remember that the process was asked to stop; a second Ctrl-C interrupts at once.

    Use it as a context manager: the earlier handlers are restored. Outside of the main thread it ignores signals,
    because Python installs no handlers there.

    Args:
        at_once: raise `StoppedError` instead, for what has no steps to finish and is done again on resuming.
    """

    SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))
    """SIGUSR1, which Windows has not, is what clusters are asked to send before a job's time is over."""

    def __init__(self, at_once: bool = False) -> None:
        self.at_once = at_once
        self.signalled: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Install the handlers."""
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in self.SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.at_once:
            raise StoppedError
        if self.signalled is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signalled = number

    def requested(self, accelerator: Accelerator) -> bool:
        """Tell whether any process was asked to stop; every process asks in every step, so all agree."""
        if accelerator.num_processes == 1:
            return self.signalled is not None
        import torch

        flag = torch.tensor([float(self.signalled is not None)], device=accelerator.device)
        return bool(accelerator.reduce(flag, reduction="sum").item())
