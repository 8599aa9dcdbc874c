"""Progress: what is passed on, and a time left that counts from the first item, not from the start."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from distill.data import progress
from distill.data.progress import followed


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(progress, "time", time)
    return time


def test_the_start_does_not_count_for_the_time_left(time: Time) -> None:
    def items() -> Iterator[int]:
        time.now += 40  # processes start
        for item in range(100):
            yield item
            time.now += 1

    console = Console(file=io.StringIO(), width=80)
    assert list(followed(items(), 100, "rendering [bold]words", console)) == list(range(100))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[:2] == ["rendering [bold]words: 0/100", "rendering [bold]words: 11/100, 89 s left"]
    assert lines[-1] == "rendering [bold]words: 99/100, 1 s left"


def test_long_times_are_told_in_minutes(time: Time) -> None:
    def items() -> Iterator[int]:
        for item in range(2):
            yield item
            time.now += 11

    console = Console(file=io.StringIO(), width=80)
    list(followed(items(), 100, "reading", console))
    assert console.file.getvalue() == "reading: 1/100, 18 min left\n"  # type: ignore[attr-defined]


def test_a_terminal_gets_a_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    assert list(followed("abc", 3, "reading [a/b]", console)) == ["a", "b", "c"]
    assert "reading [a/b]" in console.file.getvalue()  # type: ignore[attr-defined]
