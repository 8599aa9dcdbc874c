"""Loaders: endless training batches of mixed sources, and a process's share of a validation set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from distill.data.batch import Batch, Sample, collate
from distill.data.datasets import WordDataset
from distill.data.sampling import Draw, MixedBatches

Context = Literal["fork", "spawn", "forkserver"]


class MixedWords(Dataset["Sample | None"]):
    """Words of several sources, asked for by `Draw`; what is random about one depends on seed, source, epoch, word."""

    def __init__(self, sources: Sequence[WordDataset], seed: int) -> None:
        self.sources, self.seed = list(sources), seed

    def __getitem__(self, draw: Draw) -> Sample | None:
        stream = np.random.default_rng([self.seed, 1, draw.source, draw.epoch, draw.index])
        return self.sources[draw.source].sample(draw.index, stream)


def training_batches(
    sources: Sequence[WordDataset],
    shares: Sequence[float],
    batch_size: int,
    seed: int,
    workers: int = 1,
    rank: int = 0,
    world: int = 1,
    pin_memory: bool = False,
    context: Context | None = None,
) -> Callable[[int], Iterator[Batch]]:
    """Give a function from a position to the endless batches from there on.

    Args:
        sources: data sets, each with its augmentation.
        shares: their shares of a batch.
        batch_size: words a batch and process.
        seed: orders and augmentation follow from it.
        workers: loading processes; 0 loads in this one.
        rank: this process.
        world: all processes.
        pin_memory: for copies to a GPU.
        context: how worker processes start; None takes the platform's way.
    """

    def start(position: int) -> Iterator[Batch]:
        batches = MixedBatches([len(source) for source in sources], shares, batch_size, seed, rank, world, position)
        loader = DataLoader(
            MixedWords(sources, seed), batch_sampler=batches, num_workers=workers, collate_fn=collate_kept,
            pin_memory=pin_memory, worker_init_fn=_one_thread if workers else None,
            multiprocessing_context=context if workers else None, prefetch_factor=4 if workers else None,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        for batch in loader:
            if batch is not None:
                yield batch

    return start


def evaluation_loader(
    dataset: WordDataset, batch_size: int, workers: int = 0, rank: int = 0, world: int = 1
) -> DataLoader[Batch]:
    """Load a set once, in order; process r of W takes the words r, r + W, ..., none twice."""
    part = Subset(dataset, range(rank, len(dataset), world))
    return DataLoader(
        part, batch_size=batch_size, num_workers=workers, collate_fn=collate_all,
        worker_init_fn=_one_thread if workers else None,
    )  # fmt: skip


def collate_kept(samples: Sequence[Sample | None]) -> Batch | None:
    """Stack the samples that could be read; None when there is none."""
    kept = [sample for sample in samples if sample is not None]
    return collate(kept) if kept else None


def collate_all(samples: Sequence[Sample | None]) -> Batch:
    """Stack samples that must all be there.

    Raises:
        RuntimeError: when one could not be read: its set would be scored on fewer words than it has.
    """
    kept = [sample for sample in samples if sample is not None]
    if len(kept) != len(samples):
        raise RuntimeError(f"{len(samples) - len(kept)} words of a set to be scored can't be read; tools/check_lmdb.py names them")
    return collate(kept)


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
