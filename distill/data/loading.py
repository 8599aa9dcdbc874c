"""Loaders: batches of training words without end, from several sources; and of test words, each exactly once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import torch
from torch.utils.data import DataLoader

from distill.data.batch import Batch, Sample, collate
from distill.data.datasets import MixtureWords, Words
from distill.data.sampling import InOrder, MixedSampler

Context = Literal["fork", "spawn", "forkserver"]
_PREFETCH = 4
GROUP = 8
"""Batches whose words are sorted by width together."""


@dataclass(frozen=True)
class Source:
    """Words to train on, and how much of each batch they make up."""

    words: Words
    ratio: float = 1.0
    """Relative to the other sources."""


def build_loader(
    sources: Sequence[Source], batch_size: int, workers: int = 0, seed: int = 0, rank: int = 0, world: int = 1,
    start_batch: int = 0, *, context: Context | None = None, pin_memory: bool = False, by_width: bool = False,
) -> DataLoader[Batch] | BatchesByWidth:  # fmt: skip
    """Build the loader of training words of one process.

    Batch k depends on sources, batch size, seed, rank and world alone: neither the number of workers nor where a run
    was taken up changes it.

    Args:
        sources: words, and how much of each batch they make up.
        batch_size: words in a batch of this process.
        workers: loader processes; 0 loads in this one.
        seed: seed of the order (the augmentation's seed is the words' own).
        rank: number of this process.
        world: number of processes.
        start_batch: batches consumed before.
        context: how workers are started; None takes Python's default.
        pin_memory: pin batches for a quick way to the GPU.
        by_width: put words of like width into the same batch, see `BatchesByWidth`.
    """
    words, group = [source.words for source in sources], GROUP if by_width else 1
    sampler = MixedSampler(
        [len(each) for each in words], [source.ratio for source in sources], batch_size * group,
        seed=seed, rank=rank, world=world, start_batch=start_batch // group,
    )  # fmt: skip
    loader: DataLoader = DataLoader(
        MixtureWords(words),  # type: ignore[arg-type]
        batch_sampler=sampler,  # type: ignore[arg-type]
        num_workers=workers,
        collate_fn=SplitByWidth(batch_size, seed) if by_width else collate,
        worker_init_fn=start_worker,
        persistent_workers=workers > 0,
        prefetch_factor=max(_PREFETCH // group, 2) if workers else None,
        multiprocessing_context=context if workers else None,
        pin_memory=pin_memory,
        # Without its own generator each iteration would draw from the global one, and a resumed run would differ.
        generator=torch.Generator().manual_seed(seed),
    )
    return BatchesByWidth(loader, start_batch % GROUP) if by_width else loader


@dataclass(frozen=True)
class SplitByWidth:
    """Collate the words of several batches: sorted by width, cut into batches, and these put in random order."""

    batch_size: int
    seed: int

    def __call__(self, samples: Sequence[Sample]) -> list[Batch]:
        """Split samples, a multiple of the batch size; the order of the batches follows from the seed and the words."""
        ordered = sorted(samples, key=lambda sample: sample.pixels.shape[1])
        batches = [ordered[start : start + self.batch_size] for start in range(0, len(ordered), self.batch_size)]
        random.Random(f"{self.seed} {samples[0].source} {samples[0].index} {samples[-1].index}").shuffle(batches)
        return [collate(batch) for batch in batches]


@dataclass(frozen=True)
class BatchesByWidth:
    """Batches of words of like width: those of `GROUP` batches are loaded together and sorted.

    Batch k is the same wherever a run is taken up, as with any loader.
    """

    loader: DataLoader
    """Loads lists of batches."""
    skipped: int
    """Batches of the first list that were consumed before."""

    def __iter__(self) -> Iterator[Batch]:
        """Return batches without end; the loader's processes start here, not when the first batch is asked for."""
        return self._split(iter(self.loader))

    def _split(self, groups: Iterator[list[Batch]]) -> Iterator[Batch]:
        skipped = self.skipped
        for group in groups:
            yield from group[skipped:]
            skipped = 0


def build_test_loader(words: Words, batch_size: int, rank: int = 0, world: int = 1) -> DataLoader[Batch]:
    """Build a loader that gives every world-th word from `rank` on, in order and once: no padding, no repeats.

    Processes can get different numbers of batches; counts summed over them are exact.
    """
    return DataLoader(
        MixtureWords([words]),  # type: ignore[arg-type]
        batch_sampler=InOrder(range(rank, len(words), world), batch_size),  # type: ignore[arg-type]
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
    )


def start_worker(number: int) -> None:
    """Set a worker process up: one thread, and signals that are meant for the training process left to it."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # 1 would take down threads that a forked process has not, and wait for them for ever
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        # A stop that goes to the whole process group must not take the workers away while training still saves.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_stop_with_parent, daemon=True).start()


def _stop_with_parent() -> None:
    with contextlib.suppress(OSError):
        while True:
            received = signal.sigwaitinfo({signal.SIGTERM})
            if received.si_pid == os.getppid():
                os._exit(0)
