from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip import SimpleTokenizer

from students.errors import UserError
from teachers.small import LOWER_CASE_94
from teachers.tokens import PRINTABLE, CharacterTokens, WordPieceTokens

TOKENIZER = SimpleTokenizer()
TOKENS = WordPieceTokens(TOKENIZER, 77)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=PRINTABLE, min_size=1, max_size=25))
def test_the_table_of_printable_characters_says_what_the_whole_tokenizer_says(label: str) -> None:
    assert TOKENS.character_ids(label) == TOKENIZER.encode(" ".join(label))


@settings(max_examples=300, deadline=None)
@given(st.text(min_size=1, max_size=8))
def test_any_label_is_aligned_or_refused(label: str) -> None:
    try:
        ids = TOKENS.character_ids(label)
    except UserError:
        return
    assert len(ids) == len(label)
    assert ids == TOKENIZER.encode(" ".join(label))


@pytest.mark.parametrize("label", ["ﬁn", "½", "a b", " a", "a\u0308", "中", "x…", "İ", "Ãa"])
def test_a_label_that_shifts_the_rows_is_refused_by_name(label: str) -> None:
    with pytest.raises(UserError) as caught:
        TOKENS(["fine", label])
    assert repr(label) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", ["&amp;", "&lt", "it's", "<|x|>", "<start_of_text>", "é", "\u2019"])
def test_what_looks_like_an_entity_or_a_special_token_is_plain_characters(label: str) -> None:
    assert TOKENS([label]).shape == (1, len(label) + 2)


def test_texts_are_padded_to_the_longest_and_never_to_the_context() -> None:
    ids = TOKENS(["abc", "Z"])
    assert ids.shape == (2, 5)
    assert ids[1].tolist() == [TOKENS.start_id, TOKENIZER.encode("z")[0], TOKENS.end_id, 0, 0]
    assert ids.argmax(dim=1).tolist() == [4, 2]


def test_length_limits_name_the_label() -> None:
    TOKENS(["x" * 75])
    for label in ("x" * 76, ""):
        with pytest.raises(UserError, match="takes 1 to 75"):
            TOKENS([label])


def test_a_cleaning_that_drops_punctuation_refuses_it() -> None:
    canonical = WordPieceTokens(SimpleTokenizer(clean="canonicalize"), 77)
    assert canonical.character_ids("abc") == TOKENS.character_ids("abc")
    with pytest.raises(UserError, match="one token per character"):
        canonical(["a.c"])


def test_character_vocabulary_folds_case_and_refuses_strangers() -> None:
    tokens = CharacterTokens(LOWER_CASE_94, 25)
    assert torch.equal(tokens(["Ab1!"]), tokens(["aB1!"]))
    ids = tokens([LOWER_CASE_94[:25], "a"])
    assert ids[0, 1:-1].tolist() == list(range(1, 26))
    assert ids.max() == tokens.end_id == tokens.vocabulary_size - 1
    with pytest.raises(UserError, match="'é'"):
        tokens(["café"])


def test_a_vocabulary_with_both_cases_tells_them_apart() -> None:
    tokens = CharacterTokens("aAb", 25)
    assert tokens.character_ids("aAbB") == [1, 2, 3, 3]
