"""Stopping on request: SIGTERM and Ctrl-C let the running step end, then the run saves and leaves."""

from __future__ import annotations

import signal
from types import FrameType

import torch
from accelerate import Accelerator
from typing_extensions import Self

STOPPED = 75
"""Exit code of a run that saved and stopped on request (EX_TEMPFAIL: try again, with --resume auto)."""


class StopRequest:
    """Remember that the process was told to stop; a second Ctrl-C interrupts at once.

    Used as a context, so that the handlers of before come back.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.signalled: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Install the handlers."""
        for number in self.SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signalled is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signalled = number

    def requested(self, accelerator: Accelerator) -> bool:
        """Say whether any process was told to stop; every process asks in every step, so all agree."""
        if accelerator.num_processes == 1:
            return self.signalled is not None
        flag = torch.tensor([float(self.signalled is not None)], device=accelerator.device)
        return bool(accelerator.reduce(flag, reduction="sum").item())
