"""Worker processes: a function that each builds once, such as a reader's, applied to many items."""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from distill.processes import without_main_module
from students.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(
    build: Callable[[], Callable[[Item], Result]], items: Iterable[Item], workers: int, remedy: str
) -> Iterator[Result]:
    """Apply what `build` returns to items, in processes that call it once each; results come in the items' order.

    Args:
        build: can be pickled, as the items and the results.
        items: what is worked on.
        workers: number of processes.
        remedy: what would work where one of them was killed.

    Raises:
        UserError: when one was killed, for which multiprocessing's own pool would wait for ever.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (build,)) as pool:
        try:
            with without_main_module():
                results = pool.map(_apply, items)
            yield from results
        except BrokenProcessPool:
            raise UserError(f"a worker process was killed, perhaps for want of memory; {remedy}") from None
        finally:
            pool.shutdown(cancel_futures=True)


_build: Callable[[], Callable[[Any], Any]]
"""Builds what this worker process applies."""


def _begin(build: Callable[[], Callable[[Any], Any]]) -> None:
    global _build
    threading.Thread(target=end_with_parent, daemon=True).start()
    _build = functools.cache(build)


def _apply(item: Any) -> Any:
    return _build()(item)  # built with the first item, so that what goes wrong is told as its error


def end_with_parent() -> None:
    """End this process when the one that started it is gone, which may have been killed without a word."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
