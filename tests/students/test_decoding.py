"""Decoding of logits to words."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from students.charset import Charset
from students.decoding import ctc_columns_needed, decode_attention, decode_ctc, decode_probabilities

AB = Charset("ab")


def test_decoding_arrays_takes_no_torch() -> None:
    program = (
        "import sys, numpy as np\n"
        "from students import Charset\n"
        "from students.decoding import decode_attention, decode_ctc\n"
        "logits = np.eye(3, dtype=np.float32)[None] * 9\n"
        "print([decode(Charset('ab'), logits)[0].text for decode in (decode_attention, decode_ctc)])\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "['', 'ab']\n"


def test_ties_take_the_lowest_id_and_a_word_without_end_is_not_cut() -> None:
    probabilities = torch.tensor([[[0.0, 0.5, 0.5], [0.2, 0.1, 0.7]]])
    for form in (probabilities, probabilities.numpy()):
        reading = decode_probabilities(AB, form)[0]
        assert (reading.text, len(reading.token_probs)) == ("ab", 2)
        assert reading.confidence == pytest.approx(0.35)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_arrays_and_tensors_decode_alike(dtype: torch.dtype) -> None:
    logits = (torch.randn(9, 12, 3) * 3).to(dtype)
    for decode in (decode_attention, decode_ctc):
        tensors, arrays = decode(AB, logits.requires_grad_()), decode(AB, logits.detach().float().numpy())
        assert [reading.text for reading in tensors] == [reading.text for reading in arrays]
        for one, other in zip(tensors, arrays, strict=True):
            assert one.confidence == pytest.approx(other.confidence, rel=1e-6)
            assert one.token_probs == pytest.approx(other.token_probs, rel=1e-6)


def test_confidence_of_positions_is_the_product_up_to_the_end() -> None:
    logits = torch.randn(50, 6, 3) * 2
    for row, reading in zip(logits.softmax(dim=-1).double(), decode_attention(AB, logits), strict=True):
        best, ids = row.max(dim=-1)
        used = ids.tolist().index(0) + 1 if 0 in ids else 6
        assert reading.token_probs == pytest.approx(best[:used].tolist(), rel=1e-6)
        assert reading.confidence == pytest.approx(float(best[:used].prod()), rel=1e-6)


def spelt(ids: tuple[int, ...]) -> str:
    """The word of an alignment, by its definition."""
    return "".join(AB.characters[token - 1] for token, _ in itertools.groupby(ids) if token)


@pytest.mark.parametrize(
    ("columns", "word"),
    [([0, 1, 1, 0, 2], "ab"), ([1, 0, 1, 1, 1], "aa"), ([1, 1, 1, 1, 1], "a"), ([0, 0, 0, 0, 0], ""),
     ([2, 1, 2, 1, 2], "babab"), ([0, 0, 0, 0, 2], "b")],
)  # fmt: skip
def test_repetitions_are_merged_and_blanks_removed(columns: list[int], word: str) -> None:
    logits = 20 * F.one_hot(torch.tensor([columns]), 3).float()
    (reading,) = decode_ctc(AB, logits)
    assert reading.text == word == spelt(tuple(columns))
    assert reading.confidence == pytest.approx(1, abs=1e-5)
    assert reading.confidence <= 1
    assert len(reading.token_probs) == 5, "a probability a column"


def test_ctc_confidence_is_the_sum_over_all_alignments() -> None:
    logits = torch.randn(40, 5, 3) * 2
    for row, reading in zip(logits.softmax(dim=-1), decode_ctc(AB, logits), strict=True):
        chances: Counter[str] = Counter()
        for ids in itertools.product(range(3), repeat=5):
            chances[spelt(ids)] += float(
                torch.tensor([row[position, token] for position, token in enumerate(ids)]).prod()
            )
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert reading.confidence == pytest.approx(chances[reading.text], rel=1e-4)
        assert reading.token_probs == pytest.approx(row.max(dim=-1).values.tolist())


def test_ctc_confidence_is_that_of_the_loss_of_torch() -> None:
    charset = Charset.load("94")
    logits = torch.randn(64, 40, 95).double() * 4
    logits[..., 0] += torch.arange(64)[:, None] / 4
    readings = decode_ctc(charset, logits)
    targets = [charset.ids[char] for reading in readings for char in reading.text]
    lengths = torch.tensor([len(reading.text) for reading in readings])
    losses = F.ctc_loss(
        logits.log_softmax(dim=-1).transpose(0, 1), torch.tensor(targets), torch.full((64,), 40), lengths,
        reduction="none",
    )  # fmt: skip
    assert len(set(lengths.tolist())) > 3
    assert [reading.confidence for reading in readings] == pytest.approx(losses.neg().exp().tolist(), rel=1e-5)


def test_ctc_reads_a_word_alike_in_any_batch() -> None:
    logits = torch.randn(7, 12, 3) * 3
    together = decode_ctc(AB, logits)
    assert len({len(reading.text) for reading in together}) > 2
    for number, reading in enumerate(together):
        (alone,) = decode_ctc(AB, logits[number : number + 1])
        assert alone.text == reading.text
        assert alone.confidence == pytest.approx(reading.confidence)


def test_no_words_are_no_readings() -> None:
    empty = np.zeros((0, 5, 3), np.float32)
    assert decode_attention(AB, empty) == decode_ctc(AB, empty) == []


@pytest.mark.parametrize(("label", "columns"), [("", 0), ("a", 1), ("ab", 2), ("aa", 3), ("abba", 5), ("aaaa", 7)])
def test_ctc_needs_as_many_columns_as_the_shortest_alignment(label: str, columns: int) -> None:
    widths = (width for width in range(8) for ids in itertools.product(range(3), repeat=width) if spelt(ids) == label)
    assert ctc_columns_needed(label) == columns == next(widths)


# Characters and allow-lists.


@pytest.mark.parametrize("decode", [decode_attention, decode_ctc])
@pytest.mark.parametrize("form", ["array", "tensor"])
def test_what_is_allowed_is_read_as_by_a_reader_without_the_rest(decode: Callable[..., Any], form: str) -> None:
    logits: Any = torch.randn(60, 7, 6) * 3
    logits = logits.numpy() if form == "array" else logits
    allowed = np.array([True, False, True, True, False, True])
    restricted = decode(Charset("abcde"), logits, allowed)
    assert [reading.text for reading in restricted] != [reading.text for reading in decode(Charset("abcde"), logits)]
    for one, other in zip(restricted, decode(Charset("bce"), logits[..., allowed]), strict=True):
        assert one.text == other.text
        assert one.confidence == pytest.approx(other.confidence, rel=1e-5)


def test_characters_of_positions_have_their_probability_and_no_place() -> None:
    logits = torch.randn(30, 6, 3) * 2
    for reading in decode_attention(AB, logits):
        assert "".join(char.text for char in reading.characters) == reading.text
        assert [char.confidence for char in reading.characters] == list(reading.token_probs[: len(reading.text)])
        assert all(char.start is char.end is None for char in reading.characters)


def test_characters_of_ctc_stand_where_their_columns_are() -> None:
    logits = torch.full((1, 8, 3), -9.0)
    for column, (token, logit) in enumerate([(0, 9), (1, 2), (1, 9), (0, 9), (1, 5), (2, 9), (0, 9), (0, 9)]):
        logits[0, column, token] = logit
    best = logits.softmax(dim=-1).max(dim=-1).values[0].tolist()
    (reading,) = decode_ctc(AB, logits)
    assert [(char.text, char.start, char.end) for char in reading.characters] == [
        ("a", 1 / 8, 3 / 8), ("a", 4 / 8, 5 / 8), ("b", 5 / 8, 6 / 8)
    ]  # fmt: skip
    assert [char.confidence for char in reading.characters] == pytest.approx([best[2], best[4], best[5]])
    (padded,) = decode_ctc(AB, logits, lengths=[6])
    assert [(char.start, char.end) for char in padded.characters] == [(1 / 6, 3 / 6), (4 / 6, 5 / 6), (5 / 6, 1)]
