"""Label rules, alphabets of many scripts and token ids."""

# ruff: noqa: RUF001, RUF003  letters of other scripts look like those of ASCII
from __future__ import annotations

import pickle
import subprocess
import sys
import unicodedata
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

import pytest
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from students.charset import CHARSETS, Charset, LabelVerdict
from students.decoding import decode_probabilities
from students.errors import UserError

AB = Charset("ab")
LATIN = CHARSETS["36"]
GERMAN = LATIN + "äöüß"
RUSSIAN = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
GREEK = "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ"
ALPHABETS = {
    **CHARSETS,
    "german": GERMAN,
    "german capitals": "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÜẞ",
    "french": CHARSETS["94"] + "àâæçéèêëîïôœùûüÿÀÂÆÇÉÈÊËÎÏÔŒÙÛÜŸ€«»",
    "vietnamese": LATIN + "ăâđêôơưáàảãạắằẳẵặấầẩẫậéèẻẽẹếềểễệ",
    "turkish": "abcçdefgğhıijklmnoöprsştuüvyzABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZ",
    "russian": RUSSIAN,
    "greek": GREEK,
    "kanji": "東京都北区東京大学駅ガギ"[:4] + "大学駅カガキギ",
    "hangul": "서울역한국ᄒ",
    "thai": "กขคงจชซดตถทนบปพฟมยรลวสหอะัาิีึืุูเแโใไ็่้๊๋์ํำ",
    "bengali": "কখগেো\u09beািী",
    "space": "abc 123",
}
"""Alphabets of many scripts; `bengali` has vowel signs that compose with each other."""
ALPHABETS["bengali"] = "".join(dict.fromkeys(ALPHABETS["bengali"]))


def test_importing_takes_no_torch() -> None:
    names = "students, students.allow, students.charset, students.decoding, students.errors, students.files"
    program = f"import sys, {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# Label rules.


def test_length_is_checked_before_characters_are_removed() -> None:
    charset = Charset.load("36")
    assert charset.clean("a" + "!" * 24) == "a"
    assert charset.clean("a" + "!" * 25) is None
    assert charset.examine("a" + "!" * 25).reason == "too long"
    assert charset.examine("!?").reason == "empty"
    assert charset.examine("Hello!?") == LabelVerdict("hello", None, "", "!?")


@pytest.mark.parametrize(
    ("alphabet", "label", "expected", "folded", "removed"),
    [
        ("36", "Grüße", "grue", "ü", "ß"),
        ("36", "  Crème brûlée  ", "cremebrulee", "èûé", ""),
        ("36", "你a好", "a", "", "你好"),
        ("36", "ﬁne½", "fine12", "ﬁ½", ""),
        ("german", "Grüße", "grüße", "", ""),
        ("german", "STRAẞE", "straße", "", ""),
        ("german", "Ärger", "ärger", "", ""),
        ("german", "Café", "cafe", "é", ""),
        ("german", "Größe №5", "größeno5", "№", ""),
        ("german capitals", "Straße", "STRAẞE", "", ""),
        ("german capitals", "öl", "ÖL", "", ""),
        ("french", "Œuvre à l'été", "Œuvreàl'été", "", ""),
        ("french", "Señor", "Senor", "ñ", ""),
        ("vietnamese", "Phở Hà Nội ếch", None, "ởộ", ""),
        ("turkish", "İstanbul ışık", "İstanbulışık", "", ""),
        ("turkish", "Île", "Ile", "Î", ""),
        ("russian", "МОСКВА", "москва", "", ""),
        ("russian", "Ёлка", "елка", "Ё", ""),
        ("russian", "Район 5", "район", "", "5"),
        ("greek", "ΟΔΟΣ", "οδος", "", ""),
        ("greek", "ΣΟΦΙΑΣ", "σοφιας", "", ""),
        ("greek", "Αθήνα", "αθήνα", "", ""),
        ("kanji", "東京駅", "東京駅", "", ""),
        ("kanji", "ｶﾞｷ", "ガキ", "ｶﾞｷ", ""),
        ("kanji", "東京Tower", "東京", "", "Tower"),
        ("hangul", "서울역", "서울역", "", ""),
        ("thai", "น้ำ", "น้ำ", "", ""),
        ("space", " a  b\t1 ", "a b 1", "", ""),
        ("space", "a & b", "a b", "", "&"),
    ],
)
def test_a_character_that_the_alphabet_has_is_kept(
    alphabet: str, label: str, expected: str | None, folded: str, removed: str
) -> None:
    charset = Charset(ALPHABETS[alphabet])
    for form in ("NFC", "NFD"):
        verdict = charset.examine(unicodedata.normalize(form, label))
        if expected is not None:
            assert verdict.text == expected
        assert (verdict.folded, verdict.removed) == (unicodedata.normalize("NFC", folded), removed)


def test_vietnamese_keeps_what_the_alphabet_has_and_folds_the_rest() -> None:
    assert Charset(ALPHABETS["vietnamese"]).clean("Phở Hà Nội ếch") == "phohànoiếch"


def test_a_sigma_is_final_where_the_alphabet_has_it() -> None:
    plain = Charset(GREEK.replace("ς", ""))
    assert plain.clean("ΟΔΟΣ") == plain.clean("οδος") == "οδοσ"
    assert Charset(GREEK).clean("οδος") == "οδος"
    assert Charset("ΑΒΓΔΟΣ").clean("οδος") == "ΟΔΟΣ"


def test_an_accent_without_a_composed_form_is_folded_with_its_letter() -> None:
    # б́ marks a stress and has no code point of its own.
    verdict = Charset(RUSSIAN).examine("хлеб\u0301")
    assert verdict == LabelVerdict("хлеб", None, "\u0301", ""), "the letter is there, and only its mark is lost"


def test_the_two_letters_i_of_turkish_keep_apart_in_an_alphabet_of_one_case() -> None:
    small, large = Charset(digits + "abcçdefgğhıijklmnoöprsştuüvyz"), Charset("ABCÇDEFGĞHIİJKLMNOÖPRSŞTUÜVYZ")
    assert [small.examine(label).text for label in ("Iğdır", "İSTANBUL")] == ["ığdır", "istanbul"]
    assert small.examine("Iğdır").changed == set()
    assert [large.examine(label).text for label in ("istanbul", "Iğdır")] == ["İSTANBUL", "IĞDIR"]
    assert Charset.load("36").clean("IĞDIR") == "igdir"
    assert Charset(ascii_lowercase + "çğışöüéàñ").clean("MINI") == "mini", "an alphabet of many languages"


def test_case_is_never_turned_in_an_alphabet_of_both() -> None:
    assert Charset(ALPHABETS["turkish"]).case is None
    assert Charset("ABCß").case == "upper", "ß has no capital of one character"
    assert Charset("ABCß").clean("abcß") == "ABCß"
    assert Charset(ALPHABETS["kanji"]).case == "lower"


@given(st.sampled_from(sorted(ALPHABETS)), st.characters())
def test_a_character_never_becomes_longer_in_silence(alphabet: str, char: str) -> None:
    verdict = Charset(ALPHABETS[alphabet]).examine(char, keep_illegible=True)
    if verdict.text is not None and len(verdict.text) != 1:
        assert verdict.folded == unicodedata.normalize("NFC", char)


@given(st.data(), st.sampled_from(sorted(ALPHABETS)))
def test_properties_of_cleaned_labels(data: st.DataObject, alphabet: str) -> None:
    charset = Charset(ALPHABETS[alphabet])
    label = data.draw(st.text(st.sampled_from(charset.characters + "ÅéẞΣς ½ﬁ\u0301ｶﾞ") | st.characters(), max_size=30))
    verdict = charset.examine(label)
    assert verdict.text == charset.clean(label)
    for form in ("NFC", "NFD"):
        assert charset.examine(unicodedata.normalize(form, label)) == verdict
    if verdict.text is None:
        assert verdict.reason is not None
        return
    assert verdict.reason is None
    assert 0 < len(verdict.text) <= 25
    assert set(verdict.text) <= set(charset.characters)
    assert charset.clean(verdict.text) == verdict.text == charset.adapt(verdict.text)
    assert charset.examine(verdict.text) == LabelVerdict(verdict.text, None, "", "")


@given(st.data(), st.sets(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_properties_of_any_alphabet(data: st.DataObject, characters: set[str]) -> None:
    try:
        charset = Charset("".join(sorted(characters)))
    except UserError:
        return  # two forms of one character
    label = data.draw(st.text(st.sampled_from(sorted(characters)) | st.characters(exclude_categories=["Cs"])))
    verdict = charset.examine(label)
    assert charset.examine(unicodedata.normalize("NFD", label)) == verdict
    if verdict.text is not None:
        assert set(verdict.text) <= set(charset.characters)
        assert charset.clean(verdict.text) == verdict.text


@pytest.mark.parametrize("mark", ["###", "#", "*", "***", ".", " ### ", "＃＃＃"])
@pytest.mark.parametrize("alphabet", ["36", "94"])
def test_marks_for_illegible_words(mark: str, alphabet: str) -> None:
    charset = Charset.load(alphabet)
    assert charset.examine(mark).reason == "illegible"
    remaining = charset.clean(mark, keep_illegible=True)
    assert remaining == ("".join(unicodedata.normalize("NFKC", mark).split()) if alphabet == "94" else None)


@pytest.mark.parametrize("label", ["...", "#1", "a*", "-", "C#"])
def test_words_that_are_no_such_marks(label: str) -> None:
    assert Charset.load("94").clean(label) == label


# Alphabets.


@pytest.mark.parametrize(
    ("content", "characters"),
    [
        ("äöü\nß-\n".encode(), "äöüß-"),
        ("äöü\r\nß-\r\n".encode("utf-8-sig"), "äöüß-"),
        (unicodedata.normalize("NFD", "éàbc").encode(), "éàbc"),
        (b"0\n1\na\n \n", "01a "),
        ("ab０１".encode(), "ab０１"),
        ("กิ่า".encode(), "กิ่า"),
        (b"a\rb", "ab"),
    ],
)
def test_an_alphabet_comes_from_a_file(content: bytes, characters: str, tmp_path: Path) -> None:
    file = tmp_path / "alphabet.txt"
    file.write_bytes(content)
    assert Charset.load(str(file)).characters == characters


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe", "no UTF-8"),
        (b"abc\t12", "U\\+0009 is white space"),
        ("ab\u3000".encode(), "U\\+3000 IDEOGRAPHIC SPACE is white space"),
        ("ab\u2028c".encode(), "white space"),
        ("ab\u200b".encode(), "ZERO WIDTH SPACE can't be seen"),
        ("b\u0301".encode(), "COMBINING ACUTE ACCENT has no letter"),
        ("a\n\u0308\n".encode(), "COMBINING DIAERESIS has no letter"),
        ("a\ufe0f".encode(), "VARIATION SELECTOR-16 has no letter"),
        ("éxe\u0301".encode(), "repeats 'é'"),
        ("kK\u212a".encode(), "repeats 'K'"),
        (b"a b c", "repeats ' '"),
        (b"\n", "empty"),
    ],
)
def test_an_alphabet_file_that_cannot_be_used(content: bytes, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "alphabet.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=problem) as refused:
        Charset.load(str(file))
    assert str(file) in str(refused.value)


def test_an_unknown_alphabet_is_named() -> None:
    with pytest.raises(UserError, match="37"):
        Charset.load("37")


@pytest.mark.parametrize("characters", ["", "aba", "e\u0301é"])
def test_a_useless_alphabet_is_refused(characters: str) -> None:
    with pytest.raises(UserError, match="alphabet"):
        Charset(characters)


def test_composed_and_decomposed_alphabets_are_one() -> None:
    assert Charset(unicodedata.normalize("NFD", GERMAN)) == Charset(GERMAN)


def test_a_charset_can_be_pickled() -> None:
    charset = Charset.load("62")
    assert charset.ids["a"] == 11
    assert pickle.loads(pickle.dumps(charset)) == charset  # noqa: S301  what the test pickled itself


@pytest.mark.parametrize(
    ("alphabet", "char", "expected"),
    [("36", "A", "a"), ("36", "a", "a"), ("36", "-", None), ("german capitals", "ß", "ẞ"), ("german", "ẞ", "ß"),
     ("russian", "Ж", "ж"), ("greek", "Σ", "σ")],
)  # fmt: skip
def test_counterparts(alphabet: str, char: str, expected: str | None) -> None:
    assert Charset(ALPHABETS[alphabet]).counterpart(char) == expected


# Token ids.


def test_a_label_outside_the_alphabet_is_named() -> None:
    with pytest.raises(UserError, match=r"'a-b'.*'-'"):
        Charset.load("36").encode(["ok", "a-b"])


@given(st.sampled_from(["94", "german", "russian", "kanji", "thai"]), st.data())
def test_encoded_labels_decode_to_themselves(alphabet: str, data: st.DataObject) -> None:
    charset = Charset(ALPHABETS[alphabet])
    words = st.text(alphabet=charset.characters, min_size=1, max_size=25)
    labels = data.draw(st.lists(words, min_size=1, max_size=5))
    encoded = charset.encode(labels)
    assert encoded.shape == (len(labels), max(map(len, labels)) + 2)
    assert (encoded[:, 0] == charset.start_id).all()
    targets = encoded[:, 1:].masked_fill(encoded[:, 1:] == charset.pad_id, charset.end_id)
    probabilities = F.one_hot(targets, len(charset.characters) + 1).float()
    readings = decode_probabilities(charset, probabilities)
    assert [reading.text for reading in readings] == labels
    assert [len(reading.token_probs) for reading in readings] == [len(label) + 1 for label in labels]


# Lines.


def test_spaces_of_lines_become_single_and_those_at_the_ends_go() -> None:
    charset = Charset.load("95")
    assert charset.characters == CHARSETS["94"] + " "
    for label, text in [
        (" Open\tall  day\n", "Open all day"),
        ("caf\u00e9 \u3000 24h", "cafe 24h"),
        ("a \u4eac b", "a b"),
    ]:
        assert charset.clean(label) == text
        assert Charset.load("94").clean(label) == text.replace(" ", "")
    assert charset.clean(" \u4eac ") is None
    assert charset.clean("a" * 12 + "  " + "b" * 12) == "a" * 12 + " " + "b" * 12
    assert charset.clean("a " * 13, max_length=24) is None
    assert charset.adapt_reading("  Open  all ") == "Open all"
    assert Charset.load("36").adapt_reading("Open all") == "openall"
    encoded = charset.encode(["a b"])
    assert encoded[0, 1:4].tolist() == [charset.ids["a"], 95, charset.ids["b"]]


@pytest.mark.parametrize("text", ["Café", "cafe\u0301", "\uff23afe", "\ufb01ne", "brüno's", "日本Tokyo", "#", "12:30"])
@pytest.mark.parametrize("characters", ["36", "94"])
def test_a_reading_in_more_characters_is_folded_as_labels_are(text: str, characters: str) -> None:
    charset = Charset.load(characters)
    folded = charset.adapt_reading(text)
    assert folded == (charset.clean(text, keep_illegible=True) or "")
    assert charset.adapt_reading(folded) == folded


def test_neighbours_that_compose_are_refused_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "alphabet.txt"
    for lines in ("\u0995\n\u09c7\n\u09be\n", "\u1102\n\u1161\n"):
        file.write_text(lines, encoding="utf-8")
        with pytest.raises(UserError, match="would become one character; list another between them"):
            Charset.load(str(file))
    file.write_text("\u09c7\n\u0995\n\u09be\n", encoding="utf-8")
    assert Charset.load(str(file)).characters == "\u09c7\u0995\u09be"


def test_alphabets_that_write_all_words_of_ascii() -> None:
    written = {name: Charset.load(name).writes_ascii_words for name in ("36", "62", "94", "95")}
    assert written == dict.fromkeys(written, True)
    assert Charset(digits + ascii_uppercase).writes_ascii_words, "in one case"
    for characters in (digits, ascii_lowercase, digits + ascii_lowercase[1:], digits + ascii_lowercase + "ä"):
        assert not Charset(characters).writes_ascii_words


def test_what_changes_a_word_is_told_from_punctuation() -> None:
    verdict = Charset(digits).examine("B12-½é7")
    assert verdict.text == "12127"
    assert verdict.changed == {"B", "½", "é"}


def test_joined_words_are_told() -> None:
    small, spaced = Charset.load("36"), Charset.load("95")
    assert small.examine("NO LIVING").joined
    assert small.examine("NO LIVING").changed == {" "}
    assert not small.examine(" NO ").joined
    assert not spaced.examine("NO LIVING").joined
    assert not small.examine("NO LIVING", remove_whitespace=False).joined
