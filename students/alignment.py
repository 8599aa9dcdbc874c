"""Alignments of CTC columns with a label: which column emits which character, and the columns pooled by character.

A CTC reader puts its blanks where it likes, so columns of two readers can't be compared one by one, but what the
columns say of each character of a label can. Source: docs/method.md, section 4.6.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from students.decoding import BLANK_ID

NOWHERE = -1e30
"""Log-probability of a state that no path reaches: finite, so that sums and differences stay numbers."""
RAREST = 1e-30
"""Least pooled probability; what is rarer counts as this, and gets no gradient."""


def label_characters(target_ids: Tensor, characters: int) -> tuple[Tensor, Tensor]:
    """Take the characters out of encoded labels.

    Args:
        target_ids: (N, L + 2) start, characters, end, padding; see `Charset.encode`.
        characters: size of the alphabet.

    Returns:
        (N, L) class ids, and the (N,) characters of each word.
    """
    targets = target_ids[:, 1:-1]
    return targets, ((targets >= 1) & (targets <= characters)).sum(dim=1)


def alignable(targets: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Tell which words fit their columns, (N,) bool: a character takes one, and equal neighbours one in between.

    Args:
        targets: (N, L) class ids; what stands behind a word's length is ignored.
        input_lengths: (N,) columns of each word.
        target_lengths: (N,) characters of each word.
    """
    pairs = torch.arange(1, targets.shape[1], device=targets.device) < target_lengths[:, None]
    repeats = ((targets[:, 1:] == targets[:, :-1]) & pairs).sum(dim=1)
    return target_lengths + repeats <= input_lengths


def occupancy(log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> Tensor:
    """Compute the probability that a column emits a character of the label, given that the columns read the label.

    Forward and backward recursion of CTC (Graves et al. 2006, section 4.1), over logarithms. A character may be
    emitted by several columns, so its probabilities add up to 1 or more. Differentiable once.

    Args:
        log_probs: (N, T, C) log-probabilities of the columns, blank 0, float32 or float64.
        targets: (N, L) class ids, none of them 0 within a word; what stands behind its length is ignored.
        input_lengths: (N,) columns of each word; the others take no part, and may hold anything.
        target_lengths: (N,) characters of each word.

    Returns:
        (N, T, L) probabilities: 0 in columns and for characters behind a word's length, for words that don't fit
        their columns (`alignable`), and for those that the columns can't be read as at all.
    """
    (count, columns, _), longest, device = log_probs.shape, targets.shape[1], log_probs.device
    if count == 0 or columns == 0 or longest == 0:
        return log_probs.new_zeros(count, columns, longest)
    input_lengths, target_lengths = input_lengths.to(device), target_lengths.to(device)
    real = torch.arange(columns, device=device) < input_lengths[:, None]
    written = torch.arange(longest, device=device) < target_lengths[:, None]
    # The states of a word: a blank, and then each character with a blank behind it.
    states = torch.full((count, 2 * longest + 1), BLANK_ID, device=device)
    states[:, 1::2] = targets.where(written, BLANK_ID)
    emitted = log_probs.gather(2, states[:, None].expand(-1, columns, -1)).where(real[:, :, None], 0)
    emitted = emitted.clamp(min=NOWHERE)  # a probability of 0 comes as -inf
    visits: Tensor = _Visits.apply(emitted, states, input_lengths, target_lengths)  # type: ignore[no-untyped-call]
    fits = alignable(targets, input_lengths, target_lengths)
    return visits[:, :, 1::2].where(real[:, :, None] & written[:, None] & fits[:, None, None], 0)


def pool_columns(log_probs: Tensor, weights: Tensor) -> Tensor:
    """Pool columns by character, without the blank: one distribution for each character of the labels.

    With the weights of `occupancy` it is what the columns that write a character say of it. Each column counts by its
    weight and by how little of a blank it is.

    Args:
        log_probs: (N, T, C) log-probabilities of the columns, blank 0.
        weights: (N, T, L) how much each column counts for each character; `occupancy`.

    Returns:
        (N, L, C - 1) log-probabilities of the classes behind the blank; uniform where all weights are 0.
    """
    unused = (weights == 0).all(dim=2, keepdim=True)
    probabilities = log_probs[:, :, 1:].masked_fill(unused, NOWHERE).exp()
    return (weights.transpose(1, 2) @ probabilities).clamp(min=RAREST).log().log_softmax(dim=-1)


class _Visits(torch.autograd.Function):
    """The probability that a path is in a state in a column, of all paths that read the label: (N, T, S).

    Written out rather than left to autograd, which takes ten times as long over a loop of small steps.
    """

    @staticmethod
    def forward(ctx: Any, emitted: Tensor, states: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> Tensor:
        """Run the recursion on (N, T, S) log-probabilities of the states (N, S) in each column."""
        count, columns, width = emitted.shape
        # The backward recursion is the forward one with columns and states counted from the end: one loop does both.
        ends = 2 * target_lengths[:, None]
        rest = ends - torch.arange(width, device=states.device)
        last = rest.clamp(min=0)
        mirror = (input_lengths[:, None] - 1 - torch.arange(columns, device=states.device)).clamp(min=0)
        reverse = (mirror[:, :, None] * width + last[:, None]).flatten(1)
        both = torch.cat([emitted, _taken(emitted, reverse)])
        ids = torch.cat([states, states.gather(1, last)])
        # A character may follow another one without the blank in between, if it differs.
        same = F.pad(ids[:, 2:] == ids[:, :-2], (2, 0), value=True) | (ids == BLANK_ID)
        skips = torch.zeros_like(both[:, 0]).masked_fill(same, NOWHERE)
        reached = _reach(both, skips)
        forward, backward = reached.split(count)
        paths = forward + _taken(backward, reverse) - emitted
        # Every path is in one state of a column, so a column's probabilities add up to 1: no total is needed, whose
        # rounding would grow with the columns.
        paths = paths.masked_fill((rest < 0)[:, None], NOWHERE)
        visits = paths.softmax(dim=2).masked_fill(paths.amax(dim=2, keepdim=True) < NOWHERE / 2, 0)
        ctx.save_for_backward(visits, both, skips, reached, reverse)
        return visits

    @staticmethod
    @once_differentiable  # type: ignore[misc]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Compute the covariance of each visit with the sum of `gradient` along a path, over all paths.

        The derivative of the probability of one visit by the score of another one is the covariance of the two. The
        mean sum along the paths through a state follows from the same recursion, with the probabilities of the state
        before as its weights.
        """
        visits, both, skips, reached, reverse = ctx.saved_tensors
        count, sums = len(visits), torch.cat([gradient, _taken(gradient, reverse)])
        before = F.pad(reached[:, :-1], (2, 0), value=NOWHERE)
        here = both[:, 1:] - reached[:, 1:]
        ways = [before[:, :, 2:], before[:, :, 1:-1], before[:, :, :-2] + skips[:, None]]
        stay, step, skip = ((way + here).clamp(max=0).exp() for way in ways)
        padded = F.pad(sums, (2, 0))
        for column in range(1, padded.shape[1]):
            earlier, now = padded[:, column - 1], padded[:, column, 2:]
            now.addcmul_(stay[:, column - 1], earlier[:, 2:])
            now.addcmul_(step[:, column - 1], earlier[:, 1:-1])
            now.addcmul_(skip[:, column - 1], earlier[:, :-2])
        past, future = padded[:, :, 2:].split(count)
        through = past + _taken(future, reverse) - gradient
        mean = (visits * through)[:, :1].sum(dim=2, keepdim=True)
        return visits * (through - mean), None, None, None


def _reach(emitted: Tensor, skips: Tensor) -> Tensor:
    """Compute the log-probability of all beginnings of paths by last column and state: (N, T, S) as `emitted`."""
    count, columns, width = emitted.shape
    reached = emitted.new_full((columns, count, width + 2), NOWHERE)  # two states that no path is in come first
    reached[0, :, 2:4] = emitted[:, 0, :2]
    for column in range(1, columns):
        before = reached[column - 1]
        ways = torch.logaddexp(before[:, 2:], before[:, 1:-1])
        torch.logaddexp(ways, before[:, :-2] + skips, out=ways)
        torch.add(ways, emitted[:, column], out=reached[column, :, 2:]).clamp_(min=NOWHERE)
    return reached[:, :, 2:].transpose(0, 1).contiguous()


def _taken(values: Tensor, indices: Tensor) -> Tensor:
    """Take the values (N, T, S) at indices (N, T S) of a word's flattened columns and states."""
    return values.flatten(1).gather(1, indices).view_as(values)
