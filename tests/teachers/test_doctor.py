from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from students.charset import CHARSETS, Charset
from students.errors import UserError
from teachers.backbones import ClipSizes
from teachers.caption_facts import examine_captions
from teachers.clip4str import Clip4Str
from teachers.clip4str_config import Clip4StrConfig
from teachers.doctor import examine_clip, examine_clip4str, examine_reader, examine_tokens, zoo_tokens
from teachers.small import SmallTeacher, SmallTeacherConfig
from teachers.tokens import CharacterTokens

SMALLEST = SmallTeacherConfig(
    characters="0123456789abcdeABCDE", max_length=7, stem=(8, 8, 16), image_width=32, image_layers=4, image_heads=2,
    text_width=32, text_layers=4, text_heads=2, joint_width=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher with random weights that knows five letters in both cases."""
    place = tmp_path_factory.mktemp("clip") / "cased"
    SmallTeacher(SMALLEST).save(place, "card")
    return place


def test_clips_tokenizer_folds_case_and_breaks_what_is_several_characters() -> None:
    facts, single = examine_tokens(zoo_tokens("ViT-B-16"), CHARSETS["94"] + "½ﬁñ中\u2019é")
    assert facts.counts == {1: 98, 2: 2}
    assert facts.broken == {"½": "stands for '1\u20442'", "ﬁ": "stands for 'fi'", "ñ": "2 tokens", "中": "2 tokens"}
    assert (facts.letters, facts.letters_collapsed, facts.longest) == (26, 26, 75)
    assert "aA" in facts.same
    assert "'\u2019" in facts.same
    assert len(facts.same) == 27
    assert single == CHARSETS["94"] + "\u2019é"


def test_a_vocabulary_of_characters_has_what_it_has() -> None:
    facts, single = examine_tokens(CharacterTokens("abAB1", 9), "abcABC1 ")
    assert facts.counts == {0: 3, 1: 5}
    assert facts.broken == {"c": "no token", "C": "no token", " ": "no token"}
    assert (facts.same, facts.letters, facts.letters_collapsed) == ((), 3, 0)
    assert single == "abAB1"
    assert examine_tokens(CharacterTokens("ab", 9), "aAbB")[0].same == ("aA", "bB")


def test_a_clip_is_asked_what_it_tells_apart(folder: Path) -> None:
    found = examine_clip(str(folder), Charset("0123abcABCxX"))
    assert found.teacher == "cased"
    assert found.tokens is not None
    assert found.tokens.broken == {"x": "no token", "X": "no token"}
    kinds = {contrast.kind: contrast for contrast in found.contrasts}
    assert list(kinds) == ["case only", "one letter", "one digit", "order of two", "everything"]
    for contrast in found.contrasts:
        assert -1.001 <= contrast.low <= contrast.median <= contrast.high <= 1.001
        assert contrast.identical == 0
        assert max(map(len, contrast.example)) <= 7
        assert not set("".join(contrast.example)) & {"x", "X"}
    assert not any(told.startswith("the case of") for told in found.untaught), "it sees case"
    assert "words with x X: labels with such a character are refused; leave it out of the alphabet" in found.untaught
    assert "words of more than 7 characters: such labels are refused" in found.untaught


def test_the_shipped_teacher_sees_no_case() -> None:
    found = examine_clip("words-small", Charset.load("62"))
    assert found.tokens is not None
    assert (found.tokens.letters_collapsed, found.tokens.broken) == (26, {})
    case = found.contrasts[0]
    assert (case.kind, case.identical) == ("case only", case.pairs)
    assert case.median == pytest.approx(1)
    assert found.untaught[0].startswith("the case of 26 of 26 letters")
    assert not any("case" in told for told in examine_clip("words-small", Charset.load("36")).untaught)


def test_a_model_of_the_zoo_without_its_weights_is_examined_by_its_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr("teachers.zoo.fetch", fail)
    for name, why in (("ViT-B-32/openai", "can't be fetched"), ("ViT-B-32", "no weights are named")):
        found = examine_clip(name, Charset.load("94"))
        assert found.tokens is not None
        assert found.tokens.letters_collapsed == 26
        assert found.contrasts == ()
        assert why in found.unknown[0]
    for name, why in (
        ("ViT-B-33", "unknown teacher"), ("ViT-B-32/nobody", "has no weights called"), ("RN50", "only CLIPs with"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=why):
            examine_clip(name, Charset.load("94"))


def test_a_reader_is_bound_by_its_alphabet() -> None:
    found = examine_reader("mine", "a student", Charset("0123abcX"), 12, Charset("012aAx!"))
    assert found.tokens is None
    assert found.reading is not None
    assert (found.reading.outside, found.reading.other_case, found.reading.longest) == ("!", "Ax", 12)
    assert found.untaught == (
        "words from ! on: it can't read such a character",
        "the case of A x: it has the other case only",
        "what comes after 12 characters of a word: it reads no longer ones",
    )
    assert examine_reader("all", "a student", Charset.load("94"), 25, Charset.load("62")).untaught == ()


def crossed(**changed: Any) -> Clip4Str:
    sizes = {"charset": CHARSETS["94"], "max_length": 9, "clip": SMALLEST, "decoder_heads": 2, "context": 6}
    torch.manual_seed(0)
    return Clip4Str(Clip4StrConfig(**sizes | changed)).eval()  # type: ignore[arg-type]


def test_a_clip4str_is_told_what_its_captions_lose() -> None:
    found = examine_clip4str("mine", "", crossed(), Charset("019abexABX-½"))
    assert found.captions is not None
    captions = found.captions
    assert (captions.characters, captions.tokens, captions.fits, captions.longest) == (CHARSETS["36"], 4, 4, 9)
    assert (captions.dropped, captions.same) == ("-", ("aA", "bB"))
    assert captions.broken == {"x": 0, "X": 0}
    assert captions.lost == (
        "-: the alphabet of captions lacks them",
        "x X: the text tower has no token for them",
        "the case of 2 letters: both cases are written alike",
        "the end of words of more than 4 characters, when their captions exceed 4 tokens",
    )
    # It reads both cases and so teaches them; labels that its text tower can't spell are refused all the same.
    assert found.untaught == (
        "words with x X - ½: labels with such a character are refused; leave it out of the alphabet",
        "words of more than 7 characters: such labels are refused",
        "words from ½ on: it can't read such a character",
        "what comes after 9 characters of a word: it reads no longer ones",
    )
    assert [contrast.kind for contrast in found.contrasts] == [
        "case only", "one letter", "one digit", "order of two", "everything"
    ]  # fmt: skip


def test_captions_of_word_pieces_and_none_at_all() -> None:
    vision = {"width": 24, "layers": 4, "head_width": 12, "patch_size": 8, "image_size": 32}
    text = {"width": 16, "layers": 4, "heads": 2, "context_length": 12, "vocab_size": 49408}
    clip = ClipSizes(16, vision, text)
    reader = crossed(clip=clip, charset="abcABC\u2019'ñ-", caption_charset="abcABC\u2019'ñ", context=12)
    captions = examine_captions(reader, Charset("abcABC\u2019'ñ-"))
    assert captions is not None
    assert (captions.dropped, captions.same, captions.broken) == ("-", ("aA", "bB", "cC", "\u2019'"), {"ñ": 2})
    assert (captions.tokens, captions.fits) == (10, 5)
    assert "\u2019 ' apart: they are written alike" in captions.lost
    assert "ñ as one: each becomes several tokens" in captions.lost
    # A reader of one case loses none, and what it can't read its captions can't lose.
    small = examine_captions(crossed(charset="abc", caption_charset="abc", max_length=4), Charset("abcABC-"))
    assert small is not None
    assert small.lost == ()
    assert examine_clip4str("alone", "", crossed(language=False), Charset("abc")).captions is None
