"""Permuted orders: in which order the characters of a word are predicted, and the attention masks that follow.

A reader that is trained in many orders learns to use context from both sides (docs/method.md, section 3): greedy
decoding is the left-to-right order, and a refinement attends to everything but the character itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from students.charset import Charset
from students.errors import UserError

POOL_BELOW = 5
"""Words shorter than this draw from a list of all orders without replacement, so that no order comes twice."""
HALVES_OF_FOUR = (0, 3, 4, 6, 9, 10, 12, 16, 17, 18, 19, 21)
"""Orders of four characters, as `itertools.permutations` counts them, none of which mirrors another."""


@dataclass(frozen=True)
class PermutationOptions:
    """Which orders a batch is trained in; the defaults are those of the reference implementation."""

    count: int = 6
    """Orders a batch; short words have fewer."""
    forward: bool = True
    """Whether left-to-right is always one of them, the first."""
    mirrored: bool = True
    """Whether each order comes with its mirror image."""

    def __post_init__(self) -> None:
        """Refuse a count that leaves no order; raises `UserError`."""
        if self.count < 1 + self.mirrored:
            pairs = " with their mirror images" if self.mirrored else ""
            raise UserError(f"{self.count} orders{pairs} are none; give {1 + self.mirrored} or more")


@dataclass(frozen=True)
class Order:
    """Masks and targets of one order of a batch: T = longest label + 1 positions."""

    query_mask: Tensor
    """(T, T), True where a position's query may not attend to a content row."""
    content_mask: Tensor
    """(T, T), True where a content row may not attend to another, in decoders that update their content."""
    targets: Tensor
    """(N, T) token ids to predict; padding does not count."""
    count: Tensor
    """Number of targets n_k: the order's weight in the loss."""


def draw_permutations(length: int, options: PermutationOptions, source: torch.Generator) -> Tensor:
    """Draw the orders of a batch whose longest label has `length` characters: (K, length + 2) positions.

    Position 0 is the start, 1 to `length` the characters, `length` + 1 the end. The first row is left-to-right (with
    `options.forward`), the second is the complete reversal, the end before the last character; the others end with
    the end. As in the reference implementation one character has one order, and fewer than five characters draw without
    replacement from all orders (half of them when mirror images join).

    Args:
        length: characters of the longest label; shorter labels use the same orders, their padding is masked.
        options: which orders.
        source: random generator on the CPU.
    """
    if length <= 1:
        return torch.arange(length + 2)[None]
    possible = math.factorial(length) // (2 if options.mirrored else 1)
    count = min(options.count // 2 if options.mirrored else options.count, possible)
    rows = [torch.arange(length)] if options.forward else []
    if length < POOL_BELOW:
        pool = _pool(length, options.mirrored, possible)[int(options.forward) :]
        rows += [pool[index] for index in torch.randperm(len(pool), generator=source)[: count - len(rows)].tolist()]
    else:
        rows += [torch.randperm(length, generator=source) for _ in range(count - len(rows))]
    drawn = torch.stack(rows)
    if options.mirrored:
        drawn = torch.stack([drawn, drawn.flip(-1)], dim=1).flatten(0, 1)
    start, end = drawn.new_zeros(len(drawn), 1), drawn.new_full((len(drawn), 1), length + 1)
    orders = torch.cat([start, drawn + 1, end], dim=1)
    if len(orders) > 1:
        # The end is predicted from everything in the other orders, and here from nothing but the picture.
        orders[1, 1:] = torch.arange(length + 1, 0, -1)
    return orders


def _pool(length: int, mirrored: bool, possible: int) -> Tensor:
    """Return the different orders of a short word: (possible, length), left-to-right first."""
    permutations = torch.tensor(list(itertools.permutations(range(length))))
    return permutations[list(HALVES_OF_FOUR)] if mirrored and length == 4 else permutations[:possible]


def permutation_masks(permutation: Tensor) -> tuple[Tensor, Tensor]:
    """Turn one order (T + 1,) into the masks of contents and of queries, each (T, T), True = masked out.

    A position attends to those before it in the order. Content rows (start and all characters) also attend to
    themselves; queries (all characters and the end) don't, because they predict.
    """
    turn = permutation.argsort()
    later = turn[None, :] > turn[:, None]
    itself = torch.eye(len(turn), dtype=torch.bool, device=turn.device)
    return later[:-1, :-1], (later | itself)[1:, :-1]


def permuted_orders(target_ids: Tensor, permutations: Tensor, charset: Charset) -> Iterator[Order]:
    """Yield the orders of a batch of (N, L + 2) ids; from the third on the end token is no target.

    The first two predict the end from the whole word and from the picture alone, and no other order moves it.
    """
    targets = target_ids[:, 1:]
    for number, permutation in enumerate(permutations.to(targets.device)):
        if number == 2:
            targets = targets.masked_fill(targets == charset.end_id, charset.pad_id)
        content_mask, query_mask = permutation_masks(permutation)
        yield Order(query_mask, content_mask, targets, (targets != charset.pad_id).sum())


def average_orders(losses: Sequence[Tensor], counts: Sequence[Tensor]) -> Tensor:
    """Average the orders' losses by their numbers of targets: `sum_k n_k loss_k / sum_k n_k`."""
    weights = torch.stack(list(counts)).to(losses[0].dtype)
    return (torch.stack(list(losses)) * weights).sum() / weights.sum()
