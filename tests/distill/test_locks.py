"""Locks: one after the other, and none that outlives its process."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from distill.locks import acquire_lock, one_at_a_time

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys, time
from pathlib import Path
from distill.locks import acquire_lock
held = acquire_lock(Path(sys.argv[1]), 0)
print(held is not None, flush=True)
time.sleep(60)
"""


def test_a_lock_is_held_until_its_process_is_killed(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    command = [sys.executable, "-c", HOLDER, str(file)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    assert acquire_lock(file, 0) is None
    threading.Timer(0.3, holder.kill).start()
    held = acquire_lock(file, 20)
    assert held is not None, "waited for"
    holder.wait()
    held.close()


def test_one_makes_what_the_others_find(tmp_path: Path) -> None:
    entered: list[int] = []

    def make(number: int) -> None:
        with one_at_a_time(tmp_path / ".lock"):
            if not entered:
                time.sleep(0.1)
                entered.append(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(entered) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with one_at_a_time(tmp_path / ".lock"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with one_at_a_time(tmp_path / ".lock"):
        pass
