"""Show the progress of long walks over data: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

_SECONDS_BETWEEN_LINES = 10.0


def followed(items: Iterable[Item], total: int, activity: str, console: Console | None = None) -> Iterator[Item]:
    """Pass `items` on while progress is shown on stderr, with the time left.

    Args:
        items: what is walked over.
        total: how many there are.
        activity: such as `reading labels`.
        console: where to show it.
    """
    console = console or Console(stderr=True)
    if console.is_terminal:
        description = TextColumn("{task.description}", markup=False)  # paths may hold brackets and braces
        columns = (description, MofNCompleteColumn(), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            yield from bar.track(items, total=total, description=activity)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last > _SECONDS_BETWEEN_LINES:
            last = now
            left = (now - started) / max(done, 1) * (total - done)
            line = f"{activity}: {done}/{total}, {left:.0f} s left"
            console.print(line, highlight=False, soft_wrap=True, markup=False, emoji=False)
        yield item
