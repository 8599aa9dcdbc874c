from __future__ import annotations

import string

import pytest
import torch

from losses.alphabets import SharedAlphabet
from students.charset import Charset

SMALL, BOTH, ALL = (Charset.load(name) for name in ("36", "62", "94"))
DOTLESS = "\u0131"
"""A letter whose capital is I, which has another small letter."""


def random_rows(charset: Charset, rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, len(charset.characters) + 1).log_softmax(dim=-1)


@pytest.mark.parametrize("charset", [SMALL, ALL])
def test_one_alphabet_changes_nothing(charset: Charset) -> None:
    shared, rows = SharedAlphabet(charset, charset), random_rows(charset)
    assert shared.student_scores(rows) is rows
    assert shared.teacher_scores(rows) is rows
    assert shared.describe() == ""
    assert shared.classes.tolist() == [*range(len(charset.characters) + 1), -1, -1]


def test_another_order_is_a_permutation() -> None:
    mixed = Charset(SMALL.characters[::-1])
    shared, rows = SharedAlphabet(SMALL, mixed), random_rows(mixed)
    expected = torch.cat([rows[:, :1], rows[:, 1:].flip(1)], dim=1)
    torch.testing.assert_close(shared.teacher_scores(rows), expected)
    assert shared.describe() == ""


def test_a_teacher_of_94_adds_up_the_cases_for_a_student_of_36() -> None:
    shared, rows = SharedAlphabet(SMALL, ALL), random_rows(ALL)
    probabilities, scores = rows.exp(), shared.teacher_scores(rows).exp()
    for number, char in enumerate(SMALL.characters, start=1):
        pair = {ALL.ids[char], ALL.ids[char.upper()]}
        torch.testing.assert_close(scores[:, number], probabilities[:, sorted(pair)].sum(dim=1))
    torch.testing.assert_close(scores[:, 0], probabilities[:, 0])
    lost = probabilities[:, [ALL.ids[char] for char in string.punctuation]].sum(dim=1)
    torch.testing.assert_close(scores.sum(dim=1), 1 - lost)
    assert shared.left_out == string.punctuation
    assert shared.untaught == ""
    assert shared.joined == string.ascii_lowercase


def test_a_teacher_of_36_leaves_the_case_to_a_student_of_94() -> None:
    shared, rows = SharedAlphabet(ALL, SMALL), random_rows(ALL)
    scores = shared.student_scores(rows)
    assert scores.shape == (5, 37)
    for number, char in enumerate(SMALL.characters, start=1):
        pair = sorted({ALL.ids[char], ALL.ids[char.upper()]})
        torch.testing.assert_close(scores[:, number].exp(), rows[:, pair].exp().sum(dim=1))
        assert {int(shared.classes[index]) for index in pair} == {number}
    assert all(shared.classes[ALL.ids[char]] == -1 for char in string.punctuation)
    line = shared.describe()
    assert "can't read " + string.punctuation in line
    assert "count as one for " + string.ascii_lowercase + string.ascii_uppercase in line


def test_upper_case_stands_for_lower_case() -> None:
    shared = SharedAlphabet(Charset("ABC"), Charset("cab?"))
    rows = torch.tensor([[0.1, 0.2, 0.3, 0.15, 0.25]]).log()
    expected = torch.tensor([[0.1, 0.3, 0.15, 0.2]])
    torch.testing.assert_close(shared.teacher_scores(rows).exp(), expected)
    assert (shared.left_out, shared.untaught, shared.joined) == ("?", "", "")


def test_a_case_that_both_have_stays_apart_from_one_that_is_missing() -> None:
    shared = SharedAlphabet(Charset("aAb"), Charset("aABb"))
    assert shared.teacher_ids.tolist() == [[0, -1], [1, -1], [2, -1], [3, 4]]
    assert shared.joined == "b"


def test_letters_without_a_way_back_share_nothing() -> None:
    shared = SharedAlphabet(Charset(DOTLESS + "a"), Charset("Ia"))
    assert (shared.untaught, shared.left_out) == (DOTLESS, "I")
    assert shared.teacher_ids.tolist() == [[0], [2]]


def test_it_has_nothing_to_store_and_goes_along() -> None:
    shared = SharedAlphabet(SMALL, BOTH)
    assert not shared.state_dict()
    assert not list(shared.parameters())
    assert shared.to("meta").classes.device.type == "meta"
