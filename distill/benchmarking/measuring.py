"""How tables are measured, and bench.json: rounds that visit all sides in turn, medians with quartiles, memory."""

from __future__ import annotations

import dataclasses
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill.evaluation.report import describe_machine, versions

Case = Mapping[str, object]
Side = TypeVar("Side", bound=Hashable)
MIN_ROUNDS = 3
"""Rounds that are measured however long they take."""
SCHEMA = 1
"""Of bench.json."""
RESET_PEAK = Path("/proc/self/clear_refs")


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
        """Compute under bf16 on a GPU."""
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
    """Summarise measured values."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Row(table, case, statistics.median(values), low, high, unit)


def interleaved(sides: Mapping[Side, Callable[[], object]], setup: Setup) -> dict[Side, list[float]]:
    """Measure all sides in turn, round by round, so that whatever slows the machine down slows all of them.

    The clock counts CPU time of this process, which other processes disturb least; on a GPU it is the wall clock.

    Returns:
        Seconds of each side, one number a round, after a first round that warms up.
    """
    seconds: dict[Side, list[float]] = {name: [] for name in sides}
    started = time.monotonic()
    clock = time.process_time if setup.device == "cpu" else _synchronised_clock
    for number in range(setup.rounds + 1):
        for name, run in sides.items():
            before = clock()
            run()
            if number > 0:
                seconds[name].append(clock() - before)
        if number >= MIN_ROUNDS and time.monotonic() - started > setup.seconds:
            break
    return seconds


def _synchronised_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """Divide round by round: what disturbs a round disturbs both."""
    return [a / b for a, b in zip(over, under, strict=True)]


def in_new_process(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Call a module's function in a fresh process and return its result: for peaks of memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def reset_peak(device: str = "cpu") -> int:
    """Start to measure the peak anew, and return the bytes held now."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    elif RESET_PEAK.exists():
        RESET_PEAK.write_text("5")
    return peak_bytes(device)


def peak_bytes(device: str = "cpu") -> int:
    """Return the most bytes held since `reset_peak`, pages of mapped files among them."""
    if device != "cpu":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    peak = _process_field("VmHWM")
    # Elsewhere than on Linux the peak can't be reset, and is in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if peak is None else peak


def held_bytes() -> int:
    """Return the bytes that this process holds for itself, without mapped files; 0 where the system doesn't tell."""
    return _process_field("RssAnon") or 0


def own_bytes(process: int) -> int:
    """Return the bytes that a process shares with no other; 0 where the system doesn't tell."""
    return sum(_process_field(name, f"{process}/smaps_rollup") or 0 for name in ("Private_Clean", "Private_Dirty"))


def mapped_bytes(process: int) -> int:
    """Return the bytes of mapped files that a process has touched; 0 where the system doesn't tell."""
    return _process_field("RssFile", f"{process}/status") or 0


def _process_field(name: str, file: str = "self/status") -> int | None:
    """Read a field of a file of /proc in bytes; None where there is none."""
    path = Path("/proc", file)
    if not path.exists():
        return None
    lines = (line.split() for line in path.read_text().splitlines())
    return next((1024 * int(words[1]) for words in lines if words[0] == f"{name}:"), None)


def build_report(rows: Sequence[Row], setup: Setup, command: str) -> dict[str, Any]:
    """Build the content of bench.json: command, machine, versions and rows."""
    return {
        "schema": SCHEMA, "command": command, "machine": describe_machine(setup.device), "versions": versions(),
        "rows": [dataclasses.asdict(one) for one in rows],
    }  # fmt: skip


def print_table(name: str, rows: Sequence[Row], console: Console) -> None:
    """Print one table, with a column for each key that its cases have."""
    keys = list(dict.fromkeys(key for one in rows for key in one.case))
    table = Table(title=name, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for key in keys:
        table.add_column(key)
    for heading in ("median", "low", "high", "unit"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    for one in rows:
        values = [f"{value:.4g}" for value in (one.median, one.low, one.high)]
        table.add_row(*(Text(str(one.case.get(key, ""))) for key in keys), *values, one.unit)
    console.print(table)
