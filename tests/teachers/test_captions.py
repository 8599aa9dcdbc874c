from __future__ import annotations

import pytest
import torch

from students.charset import CHARSETS, Charset
from students.errors import UserError
from teachers.backbones import ClipSizes
from teachers.captions import Captioner, caption_tokens
from teachers.small import SmallTeacherConfig

WORDS = ClipSizes.of_zoo("ViT-B-16")


def ids(charset: Charset, text: str) -> torch.Tensor:
    return torch.tensor([[0 if char == "|" else charset.ids[char] for char in text]])


@pytest.mark.parametrize(
    ("read", "caption"),
    [("Hello|ab", "hello"), ("|abc", ""), ("It'sOK", "itsok"), ("x[E]yz|", "x"), ("[e]Q|", "eq"), ("!!|", "")],
)
def test_a_reading_becomes_a_caption_of_the_evaluation_alphabet(read: str, caption: str) -> None:
    charset = Charset(CHARSETS["94"])
    assert Captioner(charset, Charset(CHARSETS["36"]))(ids(charset, read)) == [caption]


def test_without_the_three_characters_nothing_but_the_end_cuts() -> None:
    charset = Charset("aEe")
    assert Captioner(charset, Charset("aEe"))(ids(charset, "aEe|a")) == ["aEe"]


def test_word_pieces_merge_and_are_cut_with_the_end_last() -> None:
    tokens = caption_tokens(WORDS, 6)
    actual = tokens(["coffee24", "", "a1b2c3d4"]).tolist()
    assert actual == [
        [49406, 2453, 273, 275, 49407, 0],  # what CLIP's own tokenizer gives for coffee24
        [49406, 49407, 0, 0, 0, 0],
        [49406, 320, 272, 321, 273, 49407],
    ]
    assert tokens(["coffee24"]).shape == (1, 6)
    assert tokens([]).shape == (0, 6)


def test_single_characters_leave_out_what_the_vocabulary_lacks() -> None:
    tokens = caption_tokens(SmallTeacherConfig(characters="abc", max_length=8), 6)
    start, end = 4, 5
    assert tokens(["cab", "a-B", "abcabc"]).tolist() == [
        [start, 3, 1, 2, end, 0],
        [start, 1, 2, end, 0, 0],
        [start, 1, 2, 3, 1, end],
    ]


def test_a_context_without_room_is_refused() -> None:
    with pytest.raises(UserError, match="3 or more"):
        caption_tokens(WORDS, 2)
