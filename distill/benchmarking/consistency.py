"""The consistency loss: in blocks of rows against one dense block, and how time and memory grow with the rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from distill.benchmarking.measuring import LEAST_ROUNDS, Row, Setup, apart, interleaved, ratios, row
from distill.benchmarking.memory import forget_peak, peak_bytes
from losses.lcl import lcl

WIDTH = 768
"""Channels of the widest rows: those of the image tower."""


def chunked_over_dense_lcl(setup: Setup) -> Iterator[Row]:
    """Time of value and gradients in blocks over that in one dense block."""
    for rows in (1000,) if setup.quick else (1000, 2000, 4000, 8000):
        student, teacher = (side.to(setup.device) for side in drawn(rows))
        block = max(1, rows // 8)  # what the loss chooses by itself may be one block already
        blocks = {"chunked": block, "dense": rows, "chosen": None}
        sides = {name: partial(_both_ways, student, teacher, size) for name, size in blocks.items()}
        seconds = interleaved(sides, setup)
        for name, told in (("chosen", "chosen"), ("chunked", "8")):
            case = {"rows": rows, "width": WIDTH, "blocks": told}
            yield row("chunked_over_dense_lcl", case, ratios(seconds[name], seconds["dense"]), "x")


def lcl_by_rows(setup: Setup) -> Iterator[Row]:
    """Milliseconds, nanoseconds a pair of rows, and extra memory at the peak; each in a process of its own."""
    for rows in (1000,) if setup.quick else (1000, 2000, 5000, 10000, 20000):
        once = rows > 5000
        seconds, extra = apart(measure, rows, 1 if once else LEAST_ROUNDS, setup.device)
        case = {"rows": rows, "width": WIDTH}
        yield row("lcl_by_rows", {**case, "of": "time"}, [1e3 * value for value in seconds], "ms")
        yield row("lcl_by_rows", {**case, "of": "time a pair"}, [1e9 * value / rows**2 for value in seconds], "ns")
        yield row("lcl_by_rows", {**case, "of": "extra memory"}, [extra / 2**20], "MiB")


def measure(rows: int, rounds: int, device: str) -> tuple[list[float], int]:
    """Give seconds of value and gradients, and by how many bytes the peak lies above the two sides themselves."""
    torch.set_num_threads(1)
    for count in (64, rows):  # kernels load their own memory on first use
        student, teacher = (side.to(device) for side in drawn(count))
        _both_ways(student[:64], teacher[:64], None)
    before, seconds = forget_peak(device), []
    for _ in range(rounds):
        started = time.process_time()
        _both_ways(student, teacher, None)
        seconds.append(time.process_time() - started)
    return seconds, peak_bytes(device) - before


def drawn(rows: int) -> tuple[Tensor, Tensor]:
    """Draw both sides."""
    source = torch.Generator().manual_seed(rows)
    student, teacher = (torch.randn(rows, WIDTH, generator=source) for _ in range(2))
    return student, teacher


def _both_ways(student: Tensor, teacher: Tensor, block: int | None) -> None:
    """Compute value and gradients of both sides."""
    sides = student.requires_grad_(), teacher.requires_grad_()
    torch.autograd.grad(lcl(*sides, block=block), sides)
