"""Permuted orders: the orders drawn, their attention masks and targets."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from students.charset import Charset
from students.errors import UserError
from students.permuted import (
    PermutationOptions,
    average_orders,
    draw_permutations,
    permutation_masks,
    permuted_orders,
)


def draw(length: int, seed: int = 0, **options: object) -> Tensor:
    return draw_permutations(length, PermutationOptions(**options), torch.Generator().manual_seed(seed))  # type: ignore[arg-type]


@pytest.mark.parametrize(("length", "orders"), [(1, 1), (2, 2), (3, 6), (4, 6), (5, 6), (25, 6)])
def test_orders_begin_left_to_right_and_its_reversal_end_first(length: int, orders: int) -> None:
    drawn = draw(length)
    assert drawn.shape == (orders, length + 2)
    assert drawn[0].tolist() == list(range(length + 2))
    assert (drawn.sort(dim=1).values == torch.arange(length + 2)).all()
    assert (drawn[:, 0] == 0).all()
    if orders > 1:
        assert drawn[1].tolist() == [0, *range(length + 1, 0, -1)]
        assert (drawn[2:, -1] == length + 1).all()


@pytest.mark.parametrize("length", [3, 4, 7])
def test_later_orders_come_with_their_mirror_image(length: int) -> None:
    drawn = draw(length, seed=3)
    for one, other in zip(drawn[2::2], drawn[3::2], strict=True):
        assert one[1:-1].flip(0).tolist() == other[1:-1].tolist()


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("length", [2, 3, 4])
def test_short_words_draw_no_order_twice_and_reach_all(length: int, mirrored: bool) -> None:
    seen = set()
    for seed in range(60):
        rows = [tuple(row) for row in draw(length, seed, mirrored=mirrored)[:, 1:-1].tolist()]
        rows[1] = tuple(reversed(rows[0])) if mirrored else rows[0]  # the second is the reversal whatever was drawn
        assert len(set(rows)) == len(rows) - (not mirrored)
        seen |= set(rows)
    if mirrored:
        assert seen == set(itertools.permutations(range(1, length + 1)))


def test_without_left_to_right_the_first_order_is_drawn() -> None:
    assert any(draw(6, seed, forward=False)[0].tolist() != list(range(8)) for seed in range(3))
    assert draw(2, forward=False).shape == (2, 4)


def test_a_seed_gives_its_orders() -> None:
    assert torch.equal(draw(9, 5), draw(9, 5))
    assert not torch.equal(draw(9, 5), draw(9, 6))


@pytest.mark.parametrize(("count", "mirrored"), [(0, False), (1, True)])
def test_no_order_at_all_is_refused(count: int, mirrored: bool) -> None:
    with pytest.raises(UserError, match="are none; give"):
        PermutationOptions(count=count, mirrored=mirrored)


def test_masks_of_the_reference_implementation() -> None:
    # Order: start, character 2, character 1, end. Rows are positions, columns content (start, 1, 2).
    content, query = permutation_masks(torch.tensor([0, 2, 1, 3]))
    assert content.tolist() == [[False, True, True], [False, False, False], [False, True, False]]
    assert query.tolist() == [[False, True, False], [False, True, True], [False, False, False]]


def test_left_to_right_is_the_causal_mask() -> None:
    content, query = permutation_masks(torch.arange(6))
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    assert torch.equal(content, causal)
    assert torch.equal(query, causal)


def test_the_end_is_a_target_of_the_first_two_orders_only() -> None:
    charset = Charset("abc")
    ids = charset.encode(["ab", "c"])
    orders = list(permuted_orders(ids, draw(2).repeat(2, 1), charset))
    assert [order.targets.tolist() for order in orders[1:3]] == [
        [[1, 2, 0], [3, 0, charset.pad_id]], [[1, 2, charset.pad_id], [3, charset.pad_id, charset.pad_id]],
    ]  # fmt: skip
    assert [int(order.count) for order in orders] == [5, 5, 3, 3]


def test_orders_weigh_as_many_as_they_have_targets() -> None:
    losses, counts = [torch.tensor(2.0), torch.tensor(5.0)], [torch.tensor(3), torch.tensor(1)]
    assert average_orders(losses, counts).item() == pytest.approx(11 / 4)
