from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from losses.labels import character_loss, column_loss, column_targets, ctc_fits, ctc_loss
from students.charset import Charset

CHARSET = Charset.load("36")


def test_character_loss_is_the_mean_over_tokens() -> None:
    ids = CHARSET.encode(["ab", "abcd"])
    logits = torch.randn(2, 5, 37)
    rows = [F.cross_entropy(logits[0, :3], torch.tensor([11, 12, 0]), reduction="sum"),
            F.cross_entropy(logits[1], torch.tensor([11, 12, 13, 14, 0]), reduction="sum")]  # fmt: skip
    torch.testing.assert_close(character_loss(logits, ids, CHARSET.pad_id), sum(rows) / 8)
    changed = logits.clone()
    changed[0, 3:] = 50
    assert character_loss(changed, ids, 38) == character_loss(logits, ids, 38)


def test_ctc_of_certain_columns_is_nothing() -> None:
    columns = torch.full((2, 32, 37), -30.0)
    for row, word in enumerate(["aab", "z"]):
        columns[row, :, 0] = 30
        for position, character in enumerate(word):
            columns[row, 3 * position, 0], columns[row, 3 * position, CHARSET.ids[character]] = -30, 30
    assert ctc_loss(columns, CHARSET.encode(["aab", "z"]), 36) == pytest.approx(0, abs=1e-4)
    assert ctc_loss(columns, CHARSET.encode(["abb", "y"]), 36) > 5


def test_a_word_that_can_not_fit_its_columns_costs_nothing() -> None:
    assert ctc_loss(torch.randn(1, 4, 37), CHARSET.encode(["aaaa"]), 36) == 0


def test_unknown_columns_cost_nothing() -> None:
    columns = torch.randn(2, 32, 37, requires_grad=True)
    nothing = column_loss(columns, torch.full((2, 32), -1))
    assert nothing == 0
    nothing.backward()
    targets = torch.randint(0, 37, (2, 32))
    targets[1] = -1
    torch.testing.assert_close(column_loss(columns, targets), F.cross_entropy(columns[0], targets[0]))


def test_padding_columns_take_no_part() -> None:
    ids, columns, targets = CHARSET.encode(["cat", "a1"]), torch.randn(2, 40, 37), torch.randint(0, 37, (2, 32))
    lengths = torch.tensor([32, 20])
    for padding in (5.0, -3.0):
        padded = columns.clone()
        padded[0, 32:], padded[1, 20:] = padding, padding
        padded.requires_grad_()
        total = ctc_loss(padded, ids, 36, lengths) + column_loss(padded, targets, lengths)
        alone = [ctc_loss(columns[n : n + 1, :length], ids[n : n + 1], 36) for n, length in enumerate([32, 20])]
        middles = [targets[0], targets[1, [(2 * column + 1) * 32 // 40 for column in range(20)]]]
        known = F.cross_entropy(torch.cat([columns[0, :32], columns[1, :20]]), torch.cat(middles))
        torch.testing.assert_close(total, torch.stack(alone).mean() + known)
        total.backward()
        assert padded.grad is not None
        assert padded.grad[0, 32:].eq(0).all()
        assert padded.grad[1, 20:].eq(0).all()
    assert ctc_fits(CHARSET.encode(["aa", "aa"]), 36, torch.tensor([2, 3])).tolist() == [False, True]


def test_columns_take_the_character_at_their_middle() -> None:
    targets = torch.arange(32)[None]
    assert torch.equal(column_targets(targets, 32), targets)
    assert column_targets(targets, 64)[0].tolist() == [n // 2 for n in range(64)]
    assert column_targets(targets, 16)[0].tolist() == [2 * n + 1 for n in range(16)]
    assert column_targets(targets, 10, torch.tensor([8]))[0].tolist() == [4 * n + 2 for n in range(8)] + [-1, -1]
