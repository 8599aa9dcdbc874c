"""Show the progress of long walks over data: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

Item = TypeVar("Item")
PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
"""How a console prints lines that may name paths: brackets in them are no markup."""

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_OF_MEASURING = 5.0
"""Time after the first item before the time left is shown: at first it would be that of starting, not of going on."""


def print_lines(console: Console, *lines: str) -> None:
    """Print lines as they are, however long."""
    for line in lines:
        console.print(line, **PLAIN)


def followed(items: Iterable[Item], total: int, activity: str, console: Console | None = None) -> Iterator[Item]:
    """Pass `items` on while progress is shown on stderr, with the time left once it can be estimated.

    Args:
        items: what is walked over.
        total: how many there are.
        activity: such as `reading labels`.
        console: where to show it.
    """
    console = console or Console(stderr=True)
    if console.is_terminal:
        description = TextColumn("{task.description}", markup=False)  # paths may hold brackets and braces
        columns = (description, MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[left]}"))
        with Progress(*columns, console=console, transient=True) as bar:
            task, clock = bar.add_task(activity, total=total, left=""), _Clock(total)
            for done, item in enumerate(items):
                bar.update(task, completed=done, left=clock.left(done))
                yield item
        return
    last, clock = time.monotonic(), _Clock(total)
    for done, item in enumerate(items):
        left = clock.left(done)
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            line = f"{activity}: {done}/{total}" + (f", {left}" if left else "")
            print_lines(console, line)
        yield item


class _Clock:
    """Estimates the time left from the rate since the first item, which may have waited for processes to start."""

    def __init__(self, total: int) -> None:
        self.total, self.started = total, 0.0

    def left(self, done: int) -> str:
        """Describe the time left; "" while too little was seen to tell."""
        now = time.monotonic()
        if done == 0:
            self.started = now
        if now - self.started < _SECONDS_OF_MEASURING:
            return ""
        seconds = round((now - self.started) / done * (self.total - done))
        return f"{seconds} s left" if seconds < 120 else f"{round(seconds / 60)} min left"
