"""Training processes as a launcher starts them, from a server that has imported everything: a start takes a second."""

from __future__ import annotations

import multiprocessing as mp
import os
import socket
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

PRELOADED = ["torch", "losses.lcl", "distill.training.distill_run"]
"""One server serves all tests of a session, so all name the same."""


def launch(world: int, job: Callable[..., None], *given: Any) -> list[BaseProcess]:
    """Start `job(*given)`, a function of a module, in each process of a run on CPUs."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    sizes = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    environments = [
        {"RANK": str(rank), "LOCAL_RANK": str(rank), **sizes, **meet} if world > 1 else {} for rank in range(world)
    ]
    begun = [context.Process(target=enter, args=(environment, job, given)) for environment in environments]
    for process in begun:
        process.start()
    return list(begun)


def enter(environment: dict[str, str], job: Callable[..., None], given: tuple[Any, ...]) -> None:
    """One process."""
    mp.set_start_method("fork", force=True)  # for its loader, as in a process that a launcher has started
    os.environ.update(environment, OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    job(*given)


def wait(processes: list[BaseProcess]) -> set[int | None]:
    """Wait for the end; when one fails, end the others at once, as launchers do. Gives the exit codes."""
    while any(process.is_alive() for process in processes):
        if any(process.exitcode not in (None, 0) for process in processes):
            for process in processes:
                process.kill()
        time.sleep(0.02)
    return {process.exitcode for process in processes}


def free_port() -> int:
    """Find a port that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
