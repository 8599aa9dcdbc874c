"""Spelling off columns: repetitions joined, blanks left out, and a confidence that is the word's whole probability."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch

from students.charset import Charset
from students.spelling import decode_attention, decode_ctc

AB = Charset("ab")


def spelt(ids: tuple[int, ...]) -> str:
    """The word of an alignment, by its definition."""
    return "".join(AB.characters[token - 1] for token, _ in itertools.groupby(ids) if token)


@pytest.mark.parametrize(
    ("columns", "word"),
    [([0, 1, 1, 0, 2], "ab"), ([1, 0, 1, 1, 1], "aa"), ([1, 1, 1, 1, 1], "a"), ([0, 0, 0, 0, 0], ""),
     ([2, 1, 2, 1, 2], "babab"), ([0, 0, 0, 0, 2], "b")],
)  # fmt: skip
def test_repetitions_are_joined_and_blanks_left_out(columns: list[int], word: str) -> None:
    logits = 20 * torch.nn.functional.one_hot(torch.tensor([columns]), 3).float()
    (reading,) = decode_ctc(AB, logits)
    assert reading.text == word == spelt(tuple(columns))
    assert reading.confidence == pytest.approx(1, abs=1e-5)
    assert reading.confidence <= 1
    assert len(reading.token_probs) == 5, "a probability a column"


def test_confidence_is_the_sum_over_all_alignments() -> None:
    logits = torch.randn(40, 5, 3) * 2
    for row, reading in zip(logits.softmax(dim=-1), decode_ctc(AB, logits), strict=True):
        chances: Counter[str] = Counter()
        for ids in itertools.product(range(3), repeat=5):
            chances[spelt(ids)] += float(torch.tensor([row[place, token] for place, token in enumerate(ids)]).prod())
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert reading.confidence == pytest.approx(chances[reading.text], rel=1e-4)
        assert reading.token_probs == pytest.approx(row.max(dim=-1).values.tolist())


def test_a_word_reads_the_same_in_any_company() -> None:
    logits = torch.randn(7, 12, 3) * 3
    together = decode_ctc(AB, logits)
    assert len({len(reading.text) for reading in together}) > 2
    for number, reading in enumerate(together):
        (alone,) = decode_ctc(AB, logits[number : number + 1])
        assert alone.text == reading.text
        assert alone.confidence == pytest.approx(reading.confidence)


def test_positions_are_spelt_as_ever() -> None:
    logits = torch.randn(5, 4, 3)
    assert decode_attention(AB, logits) == AB.decode(logits.softmax(dim=-1))
