"""All paths over a few CTC columns, written out."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def every_path(log_probs: Tensor, word: list[int]) -> Tensor:
    """Add up all paths of (T, C) log-probabilities that read the word: (T, L), how often each column emits each."""
    total, emitted = 0.0, torch.zeros(len(log_probs), len(word), dtype=log_probs.dtype)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        read: list[int] = []
        emits = []
        for before, now in itertools.pairwise((0, *path)):
            if now and now != before:
                read.append(now)
            emits.append(len(read) - 1 if now else None)
        if read == word:
            probability = log_probs[range(len(path)), path].sum().exp()
            total = total + probability
            for column, position in enumerate(emits):
                if position is not None:
                    emitted[column, position] += probability
    return emitted / total
