"""Worker processes: results in order, and a message in the place of waiting for ever."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.workers import map_in_processes
from students.errors import UserError


def adder(number: int) -> Callable[[int], int]:
    return functools.partial(int.__add__, number)


def killed_at(number: int) -> Callable[[int], int]:
    return functools.partial(leave, number)


def leave(number: int, item: int) -> int:
    if item == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_results_come_in_the_order_of_the_items() -> None:
    assert list(map_in_processes(functools.partial(adder, 10), range(7), 2, "")) == list(range(10, 17))


def test_a_worker_that_is_killed_ends_the_work() -> None:
    results = map_in_processes(functools.partial(killed_at, 3), range(50), 2, "take fewer --workers")
    with pytest.raises(UserError, match=r"a worker process was killed.*; take fewer --workers"):
        list(results)


def test_a_mistake_in_a_worker_is_told_as_such() -> None:
    with pytest.raises(UserError, match="this reader isn't there"):
        list(map_in_processes(refuse, range(3), 2, "take fewer --workers"))


def refuse() -> Callable[[int], int]:
    raise UserError("this reader isn't there")


def hold(file: str) -> Callable[[int], int]:
    Path(file).write_text("there")
    time.sleep(60)
    Path(file).write_text("still there")
    return int


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = f"""
import functools, os, sys, threading, time
from distill.workers import map_in_processes
from tests.distill.test_workers import hold

def kill():
    while not os.path.exists({str(tmp_path / "there")!r}):
        time.sleep(0.05)
    os.kill(os.getpid(), 9)

threading.Thread(target=kill).start()
list(map_in_processes(functools.partial(hold, {str(tmp_path / "there")!r}), range(2), 1, ""))
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=50, check=False, cwd=Path(__file__).parents[2]
    )  # it returns when nobody holds its output any more
    assert ended.returncode == -9
    assert (tmp_path / "there").read_text() == "there"
