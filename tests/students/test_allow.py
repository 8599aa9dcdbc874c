"""Allow-lists: ranges and files, folded by the alphabet's rules, refused outside of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from students.allow import allowed_classes, expand_allowed
from students.charset import Charset
from students.errors import UserError


def allowed_characters(charset: Charset, allow: str | Path) -> str:
    allowed = allowed_classes(charset, allow)
    assert allowed.shape == (len(charset.characters) + 1,)
    assert allowed[0], "a word may always end"
    return "".join(np.array(list(charset.characters))[allowed[1:]].tolist())


@pytest.mark.parametrize(
    ("allow", "characters"),
    [("0-3", "0123"), ("0-3a-c.", "0123abc."), ("-a", "-a"), ("a-", "a-"), ("+--", "+,-"), ("a-ab", "ab"),
     ("aab", "ab"), ("-", "-"), ("\u0430-\u0432", "\u0430\u0431\u0432"), (" -!", " !")],
)  # fmt: skip
def test_ranges_and_single_characters(allow: str, characters: str) -> None:
    assert expand_allowed(allow) == characters


def test_a_file_is_characters_without_ranges(tmp_path: Path) -> None:
    file = tmp_path / "plates.txt"
    file.write_bytes(b"\xef\xbb\xbfA-C\r\n12\n")
    assert expand_allowed(file) == "A-C12"
    with pytest.raises(UserError, match="can't be read as an allow-list"):
        expand_allowed(tmp_path / "none.txt")


def test_letters_are_folded_as_the_alphabet_folds_labels() -> None:
    assert allowed_characters(Charset.load("36"), "0-2A-C") == "012abc"
    assert allowed_characters(Charset.load("94"), "0-2A-C") == "012ABC"
    assert allowed_characters(Charset("ABCÄ"), "a-bä") == "ABÄ"


@pytest.mark.parametrize(
    ("charset", "allow", "message"),
    [("36", "a-z.", r"has '\.', outside the reader's alphabet of 36 characters; leave it out"),
     ("36", "A-z", "has .* leave them out"), ("94", " -~", "has ' '"), ("36", "", "is empty"),
     ("36", "9-0", "9-0 of the allow-list runs backwards; give 0-9"),
     ("94", "letters.txt", r"letters\.txt: no such file of allowed characters"),
     ("94", ["a", "b"], "not list")],
)  # fmt: skip
def test_mistakes_are_one_line(charset: str, allow: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as mistake:
        allowed_classes(Charset.load(charset), allow)
    assert "\n" not in str(mistake.value)
