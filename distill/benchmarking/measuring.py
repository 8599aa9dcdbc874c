"""How everything is measured: in rounds that visit all sides in turn, as a median with its quartiles."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

Case = Mapping[str, object]
Clock = Callable[[], float]
Side = TypeVar("Side", bound=Hashable)
LEAST_ROUNDS = 3
"""Rounds that are measured however long they take."""


@dataclass(frozen=True)
class Setup:
    """How to measure."""

    quick: bool = False
    """The smallest cases only."""
    rounds: int = 15
    """Most rounds of a case."""
    seconds: float = 30.0
    """No further round of a case begins after so long."""
    device: str = "cpu"
    """Where models compute; a GPU computes under bf16."""

    def batches(self, *sizes: int) -> tuple[int, ...]:
        """Choose batch sizes: those given, the first alone when quick, and large ones on a GPU."""
        return (256, 1024) if self.device != "cpu" else sizes[:1] if self.quick else sizes

    def autocast(self) -> torch.autocast:
        """Compute under bf16 on a GPU, as it is elsewhere."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.device != "cpu")


@dataclass(frozen=True)
class Row:
    """One number of a table, with its spread."""

    table: str
    case: Case
    median: float
    low: float
    """Lower quartile."""
    high: float
    """Upper quartile."""
    unit: str


def row(table: str, case: Case, values: Sequence[float], unit: str) -> Row:
    """Sum measured values up."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Row(table, case, statistics.median(values), low, high, unit)


def interleaved(sides: Mapping[Side, Callable[[], object]], setup: Setup) -> dict[Side, list[float]]:
    """Measure all sides in turn, round by round, so that whatever slows the machine down slows all of them.

    The clock counts CPU time of this process, which other processes disturb least; on a GPU it is the wall's.

    Returns:
        Seconds of each side, one number a round; a first round that warms up is not among them.
    """
    seconds: dict[Side, list[float]] = {name: [] for name in sides}
    started = time.monotonic()
    clock = time.process_time if setup.device == "cpu" else _synchronised
    for number in range(setup.rounds + 1):
        for name, run in sides.items():
            before = clock()
            run()
            if number > 0:
                seconds[name].append(clock() - before)
        if number >= LEAST_ROUNDS and time.monotonic() - started > setup.seconds:
            break
    return seconds


def _synchronised() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Divide round by round: what disturbs a round disturbs both."""
    return [a / b for a, b in zip(over, under, strict=True)]


def apart(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Call a module's function in a process of its own, fresh, and give what it returns: for peaks of memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()
