"""Alignments against every path written out, torch's own CTC, and numerical gradients."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from students.alignment import alignable, label_characters, occupancy, pool_columns
from students.charset import Charset
from tests.paths import every_path

WORDS = [[1, 1, 2], [3], [2, 1, 2, 3], [2, 2], []]
COLUMNS = [6, 4, 5, 3, 6]


def batched(words: list[list[int]], columns: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Pad the words with a class that means nothing there."""
    targets = torch.full((len(words), max(map(len, words))), 3)
    for row, word in zip(targets, words, strict=True):
        row[: len(word)] = torch.tensor(word, dtype=torch.long)
    return targets, torch.tensor(columns), torch.tensor([len(word) for word in words])


def scores(columns: int = 6, spread: float = 3.0) -> Tensor:
    return (spread * torch.randn(len(WORDS), columns, 4, dtype=torch.float64)).log_softmax(dim=-1)


def test_it_is_the_share_of_all_paths() -> None:
    log_probs, (targets, widths, lengths) = scores(), batched(WORDS, COLUMNS)
    actual = occupancy(log_probs, targets, widths, lengths)
    assert actual.shape == (5, 6, 4)
    for row, (word, width) in enumerate(zip(WORDS, COLUMNS, strict=True)):
        torch.testing.assert_close(
            actual[row, :width, : len(word)], every_path(log_probs[row, :width], word), atol=1e-12, rtol=1e-9
        )
        assert actual[row, width:].eq(0).all()
        assert actual[row, :, len(word) :].eq(0).all()


def test_its_sums_are_the_gradient_of_ctc() -> None:
    words = [[1, 2, 3], [3, 1], [1]]
    targets, widths, lengths = batched(words, [12, 9, 12])
    log_probs = (5 * torch.randn(3, 12, 4)).log_softmax(dim=-1).requires_grad_()
    loss = F.ctc_loss(log_probs.transpose(0, 1), targets, widths, lengths, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, log_probs)
    # torch gives the gradient of the logits: probability minus occupancy. All characters of a word differ here.
    expected = (log_probs.exp() - gradient).where(torch.arange(12)[:, None] < widths[:, None, None], 0)
    actual = occupancy(log_probs, targets, widths, lengths)
    for row, word in enumerate(words):
        torch.testing.assert_close(actual[row, :, : len(word)], expected[row][:, word], atol=1e-5, rtol=1e-4)


def test_every_character_is_emitted_at_least_once() -> None:
    targets, lengths = torch.randint(1, 37, (8, 10)), torch.arange(3, 11)
    log_probs = (20 * torch.randn(8, 32, 37)).log_softmax(dim=-1)
    emitted = occupancy(log_probs, targets, torch.full((8,), 32), lengths).sum(dim=1)
    assert emitted[torch.arange(10) < lengths[:, None]].min() >= 1 - 1e-5


@pytest.mark.parametrize("padding", [0.0, float("nan"), float("-inf")])
def test_padding_changes_nothing(padding: float) -> None:
    log_probs, (targets, widths, lengths) = scores(), batched(WORDS, COLUMNS)
    longer = F.pad(log_probs, (0, 0, 0, 3), value=padding)
    longer[torch.arange(9) >= widths[:, None]] = padding
    longer.requires_grad_()
    actual = occupancy(longer, F.pad(targets, (0, 2), value=1), widths, lengths)
    torch.testing.assert_close(actual[:, :6, :4], occupancy(log_probs, targets, widths, lengths))
    assert actual[:, 6:].eq(0).all()
    pooled = pool_columns(longer, actual)
    torch.testing.assert_close(pooled[:, :4], pool_columns(log_probs, actual[:, :6, :4]))
    pooled.logsumexp(dim=1).sum().backward()
    assert longer.grad is not None
    assert longer.grad[torch.arange(9) >= widths[:, None]].eq(0).all()
    assert longer.grad.isfinite().all()


def test_words_that_do_not_fit_have_no_alignment() -> None:
    targets, _, lengths = batched([[1, 1, 2], [1, 2, 1], [2]], [0, 0, 0])
    for width, fits in ((4, [True] * 3), (3, [False, True, True]), (2, [False, False, True]), (0, [False] * 3)):
        widths = torch.full((3,), width)
        assert alignable(targets, widths, lengths).tolist() == fits
        log_probs = torch.randn(3, 5, 4).log_softmax(dim=-1).requires_grad_()
        weights = occupancy(log_probs, targets, widths, lengths)
        assert weights.flatten(1).sum(dim=1).gt(0).tolist() == fits
        assert pool_columns(log_probs, weights).isfinite().all()
        weights.square().sum().backward()
        assert log_probs.grad is not None
        assert log_probs.grad.isfinite().all()


def test_what_no_path_reads_has_no_alignment() -> None:
    columns = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0]])
    log_probs = columns.log().expand(2, 3, 3).clone().requires_grad_()
    targets, widths, lengths = torch.tensor([[1, 2], [1, 0]]), torch.tensor([3, 3]), torch.tensor([2, 1])
    weights = occupancy(log_probs, targets, widths, lengths)
    assert weights[0].eq(0).all()
    assert weights[1, :, 0].sum() >= 1
    weights.square().sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad[0].eq(0).all()


def test_what_is_all_but_impossible_stays_a_number() -> None:
    targets, widths, lengths = torch.tensor([[1, 2, 1]]), torch.tensor([40]), torch.tensor([3])
    log_probs = torch.full((1, 40, 4), -2e4)
    log_probs[:, :, 3] = 0  # sure of another word
    log_probs[0, 11, 1] = float("-inf")
    log_probs.requires_grad_()
    weights = occupancy(log_probs, targets, widths, lengths)
    assert weights.sum(dim=1).min() >= 1 - 1e-5
    assert weights[0, 11, [0, 2]].eq(0).all()
    weights.square().sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad.isfinite().all()


def test_gradients_are_the_numerical_ones() -> None:
    targets, widths, lengths = batched(WORDS[:4], [5, 4, 5, 3])
    logits = torch.randn(4, 5, 4, dtype=torch.float64, requires_grad=True)

    def visits(values: Tensor) -> Tensor:
        return occupancy(values.log_softmax(dim=-1), targets, widths, lengths)

    def pooled(values: Tensor) -> Tensor:
        return pool_columns(values.log_softmax(dim=-1), visits(values))

    assert torch.autograd.gradcheck(visits, logits)
    assert torch.autograd.gradcheck(pooled, logits)


def test_pooled_columns_are_their_weighted_mean_without_the_blank() -> None:
    log_probs, weights = scores(), torch.rand(5, 6, 2, dtype=torch.float64)
    pooled = pool_columns(log_probs, weights)
    for word, column in itertools.product(range(5), range(2)):
        mean = (weights[word, :, column, None] * log_probs[word].exp()).sum(dim=0)[1:]
        torch.testing.assert_close(pooled[word, column].exp(), mean / mean.sum())


def test_characters_of_encoded_labels() -> None:
    charset = Charset("abc")
    targets, lengths = label_characters(charset.encode(["ab", "c", "cab"]), 3)
    assert lengths.tolist() == [2, 1, 3]
    assert [row[:length].tolist() for row, length in zip(targets, lengths, strict=True)] == [[1, 2], [3], [3, 1, 2]]
