"""Losses that learn from labels: characters by a decoder, CTC, and the character under each column."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from students.alignment import alignable, label_characters
from students.decoding import BLANK_ID


def character_loss(logits: Tensor, target_ids: Tensor, pad_id: int) -> Tensor:
    """Compute the cross-entropy of (N, T, C + 1) logits against (N, T + 1) ids, mean over tokens without padding.

    Source: docs/method.md, section 1.3.
    """
    return F.cross_entropy(logits.float().flatten(0, 1), target_ids[:, 1:].flatten(), ignore_index=pad_id)


def ctc_loss(columns: Tensor, target_ids: Tensor, characters: int, lengths: Tensor | None = None) -> Tensor:
    """Compute CTC of (N, W, C + 1) column logits (blank 0), mean over characters; words that don't fit give 0.

    Args:
        columns: column logits.
        target_ids: (N, L + 2) start, characters, end, padding.
        characters: C.
        lengths: (N,) columns of each word, of which the others are padding; None for all.
    """
    inside = (target_ids >= 1) & (target_ids <= characters)
    log_probs = columns.float().log_softmax(dim=-1).transpose(0, 1)
    widths = torch.full((columns.shape[0],), columns.shape[1]) if lengths is None else lengths.cpu()
    targets = target_ids[inside]
    if torch.are_deterministic_algorithms_enabled():  # there is no such kernel for a GPU
        log_probs, targets = log_probs.cpu(), targets.cpu()
    loss = F.ctc_loss(log_probs, targets, widths, inside.sum(dim=1).cpu(), blank=BLANK_ID, zero_infinity=True)
    return loss.to(columns.device)


def ctc_fits(target_ids: Tensor, characters: int, columns: int | Tensor) -> Tensor:
    """Tell which words (N, L + 2) fit their columns, as many for all or (N,): see `alignable`."""
    targets, lengths = label_characters(target_ids, characters)
    return alignable(targets, torch.as_tensor(columns, device=targets.device), lengths)


def column_loss(columns: Tensor, targets: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Compute the cross-entropy of (N, W, C + 1) column logits against (N, 32) ids; -1 is unknown and left out.

    A batch that knows no column gives 0, not the NaN of an empty mean.

    Args:
        columns: column logits.
        targets: ids under each 32nd of the picture's width.
        lengths: (N,) columns of each word, which span its picture; None for all.
    """
    known = column_targets(targets, columns.shape[1], lengths)
    losses = F.cross_entropy(columns.float().flatten(0, 1), known.flatten(), ignore_index=-1, reduction="sum")
    return losses / (known >= 0).sum().clamp(min=1)


def column_targets(targets: Tensor, columns: int, lengths: Tensor | None = None) -> Tensor:
    """Spread (N, P) ids of parts of equal width over the columns: (N, W), each the id at its middle, -1 behind them.

    Args:
        targets: ids of the parts.
        columns: W.
        lengths: (N,) columns of each word; None for all.
    """
    parts = targets.shape[1]
    if lengths is None and columns == parts:
        return targets
    numbers = torch.arange(columns, device=targets.device)
    widths = targets.new_tensor([[columns]]) if lengths is None else lengths[:, None]
    middles = ((2 * numbers + 1) * parts // (2 * widths.clamp(min=1))).clamp(max=parts - 1)
    return targets.gather(1, middles.expand(len(targets), -1)).where(numbers < widths, -1)
