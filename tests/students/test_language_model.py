"""Language models: lists of words and codes, what they make of a CTC reader's columns, and where they are stored."""

from __future__ import annotations

import dataclasses
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch

from students.charset import CHARSETS, Charset
from students.ctc import CtcReader, learner
from students.decoding import SURE, Reading, decode_ctc
from students.errors import UserError
from students.growing import grow
from students.language_model import (
    CODE_SHARE,
    EVENLY,
    OWN,
    OWN_FILE,
    RAREST,
    WEIGHT,
    LanguageModel,
    WordList,
    fold,
    load_language_model,
    read_counts,
)
from students.remap import remap
from students.student import Student, StudentConfig

CHARSET = Charset(CHARSETS["94"])


def listed(**counts: float) -> LanguageModel:
    return LanguageModel([WordList(OWN, counts)])


def columns(*choices: dict[str, float]) -> np.ndarray:
    """Logits (1, W, C + 1) of columns that give characters these probabilities, and the blank the rest."""
    probabilities = np.full((1, len(choices), len(CHARSET.characters) + 1), 1e-9)
    for column, chances in enumerate(choices):
        for char, chance in chances.items():
            probabilities[0, column, CHARSET.ids[char]] = chance
        probabilities[0, column, 0] = max(1 - sum(chances.values()), 1e-9)
    return np.log(probabilities)


HAUSE = columns({"H": 0.99}, {"a": 0.6, "o": 0.4}, {"u": 0.99}, {"s": 0.99}, {"e": 0.99})


def read(logits: np.ndarray, model: LanguageModel | None) -> Reading:
    (reading,) = decode_ctc(CHARSET, logits, language_model=model)
    return reading


def test_of_readings_that_look_alike_the_common_word_is_taken() -> None:
    plain, weighed = read(HAUSE, None), read(HAUSE, listed(house=99, mouse=1))
    assert (plain.text, weighed.text) == ("Hause", "House")
    assert [char.text for char in weighed.characters] == list("House")
    assert [(char.start, char.end) for char in weighed.characters] == [(n / 5, (n + 1) / 5) for n in range(5)]
    assert weighed.characters[1].confidence == pytest.approx(0.4, abs=1e-5)


def test_its_confidence_is_the_probability_times_the_prior_over_the_mean_prior() -> None:
    model = listed(house=99, mouse=1)
    weighed = read(HAUSE, model)
    high, low = model.prior("house"), model.prior("hause")
    assert (high, low) == pytest.approx((0.99**WEIGHT, RAREST**WEIGHT))
    likelihood = 0.99**4 * 0.4
    assert weighed.confidence == pytest.approx(
        likelihood * high / (likelihood * high + (1 - likelihood) * low), rel=1e-3
    )
    assert weighed.confidence > 0.9 > read(HAUSE, None).confidence


def test_what_the_columns_are_sure_of_stays_whatever_the_list_says() -> None:
    sure = columns({"x": 0.99}, {"q": 0.98, "o": 0.015})
    reading = read(sure, listed(xo=1))
    assert reading.confidence > SURE
    assert reading == read(sure, None)


def test_words_that_are_all_unknown_are_read_as_without_a_list() -> None:
    unknown, plain = read(HAUSE, listed(tree=1)), read(HAUSE, None)
    assert unknown.text == plain.text
    assert unknown.confidence == pytest.approx(plain.confidence)
    assert unknown.characters == plain.characters


def test_both_cases_of_a_letter_count_as_one() -> None:
    doubtful = columns({"s": 0.3, "S": 0.3, "5": 0.4}, {"o": 0.9})
    assert read(doubtful, None).text == "5o"
    assert read(doubtful, listed(tree=1)).text in ("so", "So"), "0.6 for an s of either case"
    capital = columns({"s": 0.2, "S": 0.4, "5": 0.4}, {"o": 0.9})
    assert read(capital, listed(so=1)).text == "So"


def test_both_cases_of_a_letter_may_follow_each_other_without_a_blank() -> None:
    names = columns({"A": 0.97}, {"a": 0.97}, {"r": 0.97}, {"o": 0.9}, {"n": 0.97})
    weighed = read(names, listed(aaron=1, aron=1))
    assert weighed.text == read(names, None).text == "Aaron"
    doubtful = columns({"L": 0.9}, {"l": 0.9}, {"a": 0.6, "o": 0.4}, {"y": 0.9})
    assert read(doubtful, listed(lloy=1)).text == "Lloy", "L and l, one beside the other"


def test_characters_that_are_not_allowed_stay_out() -> None:
    allowed = np.array([True] + [char != "o" for char in CHARSET.characters])
    (reading,) = decode_ctc(CHARSET, HAUSE, allowed, language_model=listed(house=1))
    assert reading.text == "Hause"


def test_codes_stand_for_others_of_their_shape() -> None:
    model = listed(ab12cde=3, xy99zzz=1, b0=4, house=2)
    evenly = (EVENLY / (EVENLY + 4)) ** 7
    assert model.prior("QR-55 STU") == pytest.approx((CODE_SHARE * 0.4 * evenly) ** WEIGHT)
    assert model.prior("AB12 CDE") > max(model.prior("AB12 CDF"), 0.3**WEIGHT)
    assert model.prior("QRS5STU") == model.prior("mouse") == pytest.approx(RAREST**WEIGHT)
    zero_or_o = columns({"Q": 0.99}, {"O": 0.6, "0": 0.4})
    assert (read(zero_or_o, None).text, read(zero_or_o, model).text) == ("QO", "Q0")


def test_codes_are_likelier_with_characters_that_others_have_in_the_same_places() -> None:
    (plates,) = listed(ab12=3, ac34=1).lists
    one_of_many = plates.frequency("zx56")
    assert plates.frequency("ax56") / one_of_many == pytest.approx((4 * 26 + EVENLY) / EVENLY), "all four start with a"
    assert plates.frequency("zx14") / one_of_many == pytest.approx((3 * 10 + EVENLY) * (10 + EVENLY) / EVENLY**2)
    assert plates.frequency("xa56") == plates.frequency("zx41") == one_of_many, "a, 1 and 4 stand in other places"


def test_codes_of_a_shape_are_together_as_likely_as_if_they_were_drawn_evenly() -> None:
    (plates,) = listed(a1=30, b1=10, house=60).lists
    codes = [letter + digit for letter in "abcdefghijklmnopqrstuvwxyz" for digit in "0123456789"]
    assert sum(map(plates.frequency, codes)) == pytest.approx(0.4 + 0.4 * CODE_SHARE * len(codes))


def test_a_code_is_no_likelier_than_its_shape() -> None:
    (numbers,) = listed(**{f"1234567{digit}": 1000 for digit in range(5)}, house=5000).lists
    assert numbers.frequency("12345679") == 0.5


def test_a_text_of_several_words_is_as_common_as_they_are_together() -> None:
    model = listed(tax=10, free=10, dont=10, don=1, t=69)
    assert model.prior("tax free") == pytest.approx(0.1 ** (2 * WEIGHT))
    assert model.prior("Don't!") == pytest.approx(0.1**WEIGHT)
    assert model.prior("") == model.prior("...") == pytest.approx(RAREST**WEIGHT)


def test_in_several_lists_the_most_frequent_counts() -> None:
    one, other = WordList("one", {"a": 1.0, "b": 3.0}), WordList(OWN, {"a": 1.0})
    both = LanguageModel([one, other])
    assert (both.prior("a"), both.prior("b")) == pytest.approx((1, 0.75**WEIGHT))
    assert (both.name, both.own_text) == ("one+own", "a\t1\n")


@pytest.mark.parametrize(
    ("text", "folded"),
    [("Straße", "strasse"), ("Zürich", "zurich"), ("A-1 b", "a1b"), ("Ω3", "ω3"), ("---", ""), ("brand™", "brandtm")],
)
def test_case_accents_and_punctuation_do_not_matter(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_a_file_has_words_and_perhaps_counts(tmp_path: Path) -> None:
    text = "# streets\n#old\nHigh Street\t3\n\nhigh-street\t1\nBroadway\n#12\n"
    (tmp_path / "streets.txt").write_text(text, encoding="utf-8-sig")
    (tmp_path / "streets.txt.xz").write_bytes(lzma.compress(text.encode()))
    for name in ("streets.txt", "streets.txt.xz"):
        assert read_counts(tmp_path / name) == {"highstreet": 4, "broadway": 1, "12": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\tmany\n", r"line 1 says 'many' of 'a'; give a number above 0 behind the tab"),
        (b"a\n b\t-1", r"line 2 says '-1' of ' b'"),
        (b"a\tnan", "line 1 says 'nan'"),
        (b"\xff\xfe\xff", "no UTF-8 text"),
        (b"...\n", "has no words; give a text file with a word a line"),
        (b"0.png\t412\n1.png\t1999\n", "looks like a label file, which names pictures; give the folder"),
        (b"file,label\n000.JPG,Brot\n", "looks like a label file"),
        (b'{"file": "000.png", "label": "Brot"}\n', "looks like a label file"),
    ],
)
def test_a_file_that_is_none_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_counts(tmp_path / "words.txt")
    with pytest.raises(UserError, match=r"No such file or directory.*a word a line"):
        read_counts(tmp_path / "other.txt")


def test_the_shipped_list_knows_words_of_seven_languages() -> None:
    model = load_language_model("european")
    assert model is not None
    assert model.own_text is None
    words = ["street", "house", "straße", "città", "mañana", "château", "het", "saída"]
    assert min(map(model.prior, words)) > 10 * model.prior("xqzt")
    assert model.prior("the") > model.prior("street") > model.prior("harbour") > model.prior("xqzt")
    assert not any(word.isdigit() for word in model.lists[0].counts)


@pytest.mark.parametrize(
    "text",
    [
        "street,120\nharbour,40\n",
        "word;count\nstreet; 120\n",
        "the 900\nof 80\nand 70\nin 70\nto 6\n",
        "abc|3\n",
        "plate;count\nAB123;1\nCD 456; 2\n",
        "AB123,1\nCD456,12\n",
        "12|3\n",
        "      3 abc\n     12 def\n",
        "the: 900\nof: 80\nand: 70\nin: 70\nto: 6\n",
        "900 the\n80 of\n70 and\n70 in\n6 to\n",
    ],
)
def test_counts_without_tabs_are_no_codes(text: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match="looks like a word with a count; put the word first and a tab between"):
        read_counts(tmp_path / "list.txt")


def test_a_list_in_one_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("AB123,CD456,EF789\n")
    with pytest.raises(UserError, match="'AB123,CD456,EF789' looks like several words; write each in a"):
        read_counts(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("1,50\n2,75\n")
    assert read_counts(tmp_path / "list.txt") == {"150": 1, "275": 1}, "prices"


def test_plates_with_spaces_are_codes(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("KA 1234\nHD AB 77\nM X 9\nB 123\nKA 900\n")
    assert read_counts(tmp_path / "list.txt")["hdab77"] == 1
    for text, word in (
        ("12 ABC\n7 KD\n19 XY\n4 B\n55 Q\n", "19xy"), (" 12 ABC\n 7 KD\n", "7kd"), ("Gate: 3\nGate: 4\n", "gate3"),
        ("24 ABC\n24 ABD\n24 XYZ\n24 DEF\n24 GHI\n", "24xyz"), ("12, High\n14, Low\n", "14low"),
    ):  # fmt: skip
        (tmp_path / "list.txt").write_text(text)
        assert read_counts(tmp_path / "list.txt")[word] == 1


def test_names_of_language_models(tmp_path: Path) -> None:
    assert load_language_model("none") is None
    assert load_language_model(OWN) is None, "a reader in the making, whose list comes later"
    with pytest.raises(UserError, match="there is no language model 'klingon'; choose european or none"):
        load_language_model("klingon")
    combined = load_language_model("european+own", "harbour\t2\nab12\n")
    assert combined is not None
    assert combined.name == "european+own"
    assert combined.own_text == "harbour\t2\nab12\t1\n"
    assert listed(a=12345678, b=0.1, c=1e-7).own_text == "a\t12345678\nb\t0.1\nc\t1e-07\n"


@pytest.fixture
def reader(small_config: StudentConfig) -> CtcReader:
    torch.manual_seed(0)
    return CtcReader(dataclasses.replace(small_config, decoding="ctc")).eval()


def test_a_reader_keeps_it_in_its_folder(reader: CtcReader, tmp_path: Path) -> None:
    reader.language_model = listed(house=2, ab12=1)
    reader.save_pretrained(tmp_path)
    loaded = CtcReader.from_pretrained(tmp_path)
    assert loaded.language_model is not None
    assert loaded.language_model.lists[0].counts == {"house": 2, "ab12": 1}
    assert loaded.config.language_model == OWN
    again = learner(loaded, decoder=False)
    remapped, _ = remap(loaded, Charset("abcd"), 5)
    grown, _ = grow(loaded, dataclasses.replace(loaded.config, depth=loaded.config.depth + 1))
    for made in (again, remapped, grown):
        assert made.config.language_model == OWN
        assert made.language_model is loaded.language_model
    for decoding in ("ar", "nar"):
        otherwise = learner(loaded, decoding)
        assert (otherwise.config.language_model, otherwise.language_model) == ("none", None), "it is for CTC alone"
    loaded.language_model = None
    loaded.save_pretrained(tmp_path / "without")
    assert CtcReader.from_pretrained(tmp_path / "without").language_model is None
    (tmp_path / OWN_FILE).unlink()
    with pytest.raises(UserError, match=f"{OWN_FILE}: can't be read as a language model"):
        CtcReader.from_pretrained(tmp_path)


def test_its_name_is_none(reader: CtcReader) -> None:
    with pytest.raises(UserError, match=r"'european' is no language model; give symdistill\.open_language_model"):
        reader.language_model = "european"  # type: ignore[assignment]


def test_only_ctc_has_one(student: Student, small_config: StudentConfig) -> None:
    with pytest.raises(UserError, match="a language model is for reading by CTC"):
        student.language_model = listed(a=1)
    with pytest.raises(UserError, match="a language model is for reading by CTC"):
        student.language_model = listed(a=1)
    with pytest.raises(UserError, match="a language model is for decoding ctc, not ar"):
        dataclasses.replace(small_config, language_model="european")
    with pytest.raises(UserError, match="there is no language model 'other'"):
        CtcReader(dataclasses.replace(small_config, decoding="ctc", language_model="other"))
