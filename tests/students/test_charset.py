"""Label rules, alphabets of many scripts, token ids, and decoding of logits to words."""

# ruff: noqa: RUF001, RUF003  letters of other scripts look like those of ASCII
from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from students.charset import (
    CHARSETS,
    Charset,
    LabelVerdict,
    ctc_columns_needed,
    decode_attention,
    decode_ctc,
)
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
    "blank": "abc 123",
}
"""Alphabets of many scripts; `bengali` has vowel signs that compose with each other."""
ALPHABETS["bengali"] = "".join(dict.fromkeys(ALPHABETS["bengali"]))


def test_importing_takes_no_torch() -> None:
    names = "students, students.charset, students.errors, students.files"
    program = f"import sys, {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_decoding_arrays_takes_no_torch() -> None:
    program = (
        "import sys, numpy as np\n"
        "from students import Charset\n"
        "from students.charset import decode_attention, decode_ctc\n"
        "logits = np.eye(3, dtype=np.float32)[None] * 9\n"
        "print([decode(Charset('ab'), logits)[0].text for decode in (decode_attention, decode_ctc)])\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "['', 'ab']\n"


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
        ("blank", " a  b\t1 ", "a b 1", "", ""),
        ("blank", "a & b", "a b", "", "&"),
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
    assert verdict == LabelVerdict("хлеб", None, "б\u0301", "")


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
    readings = charset.decode(probabilities)
    assert [reading.text for reading in readings] == labels
    assert [len(reading.token_probs) for reading in readings] == [len(label) + 1 for label in labels]


# Decoding.


def test_ties_take_the_lowest_id_and_a_word_without_end_is_not_cut() -> None:
    probabilities = torch.tensor([[[0.0, 0.5, 0.5], [0.2, 0.1, 0.7]]])
    for form in (probabilities, probabilities.numpy()):
        reading = AB.decode(form)[0]
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
