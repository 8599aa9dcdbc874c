"""Real process groups on this machine, for what several processes have to agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.launch import PRELOADED

Job = Callable[[int, int, Path], Any]
"""`job(rank, world, folder)`, a function of a module; what it gives must be tensors and plain values."""


def run_groups(job: Job, worlds: Iterable[int], folder: Path) -> dict[int, list[Any]]:
    """Run `job` on every rank of a gloo group of each size, and give what it gave, by size and rank.

    The groups follow each other in the same processes. Spawned ones would each import torch and all packages anew; a
    fork server does it once.
    """
    sizes = sorted(set(worlds), reverse=True)
    mp.get_context("forkserver").set_forkserver_preload(PRELOADED)
    mp.start_processes(enter, (job, sizes, folder), nprocs=sizes[0], start_method="forkserver")
    return {
        world: [torch.load(folder / f"given{world}-{rank}.pt", weights_only=True) for rank in range(world)]
        for world in sizes
    }


def enter(rank: int, job: Job, sizes: list[int], folder: Path) -> None:
    """One process: take part in every group that has a place for it."""
    torch.set_num_threads(1)
    for world in sizes:
        if rank >= world:
            return
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet{world}", rank=rank, world_size=world)
        torch.save(job(rank, world, folder), folder / f"given{world}-{rank}.pt")
        dist.destroy_process_group()
