"""The token ids that CLIP-OCR's teacher gets for labels."""

from __future__ import annotations

import pytest
from open_clip import SimpleTokenizer

from teachers.tokens import WordPieceTokens
from tests.reference.cases import Case, cases


@pytest.mark.parametrize("case", cases("clipocr tokens"))
def test_ids_of_characters_and_strings(case: Case) -> None:
    expected = case.numbers
    longest = max(known["context_length"] for known in expected["strings"].values())
    tokens = WordPieceTokens(SimpleTokenizer(), max(longest, 77))
    assert (tokens.start_id, tokens.end_id) == (expected["start_token"], expected["end_token"])
    for character, ids in expected["single_character_ids"].items():
        assert tokens([character])[0, 1:-1].tolist() == ids
    for label, known in expected["strings"].items():
        assert tokens([label])[0].tolist() == known["ids"]
    assert tokens(["a", "ab"])[0, -1] == expected["pad_token"]
