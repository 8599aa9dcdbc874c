"""The label rules and token ids, against the stored results of the published programs and by their properties."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from students.charset import CHARSETS, Charset
from students.errors import UserError


@pytest.fixture(scope="module")
def stored(reference: Path) -> dict[str, Any]:
    return json.loads((reference / "data.json").read_text())


@pytest.fixture(scope="module")
def arrays(reference: Path) -> Any:
    return np.load(reference / "data.npz")


@pytest.mark.reference
def test_alphabets_are_in_the_published_order(stored: dict[str, Any]) -> None:
    assert {name: stored["charsets"][name] for name in CHARSETS} == CHARSETS


@pytest.mark.reference
def test_clean_labels_are_the_published_ones(stored: dict[str, Any]) -> None:
    for case, expected in stored["processed"].items():
        name, *settings = case.split("|")
        options = dict(setting.split("=") for setting in settings)
        charset = Charset(stored["charsets"][name])
        found = [
            charset.clean(
                label,
                int(options.get("max_label_len", 25)),
                options.get("remove_whitespace", "True") == "True",
                options.get("normalize_unicode", "True") == "True",
            )
            for label in stored["raw_labels"]
        ]
        assert found == expected, case


@pytest.mark.reference
def test_adapted_predictions_are_the_published_ones(stored: dict[str, Any]) -> None:
    for name, cases in stored["charset_adapter"].items():
        charset = Charset(stored["charsets"][name])
        assert {text: charset.adapt(text) for text in cases} == cases


@pytest.mark.reference
@pytest.mark.parametrize("name", ["36", "62", "94", "upper"])
def test_comparison_is_the_published_one(stored: dict[str, Any], name: str) -> None:
    charset = Charset(stored["charsets"][name])
    told = stored["comparison"]["by_test_charset"][name]
    hits = words = 0
    for (prediction, truth), row in zip(stored["comparison"]["pairs"], told["rows"], strict=True):
        label = charset.clean(truth)
        assert (label is None) == (row is None)
        if row is not None:
            assert label == row["ground_truth_processed"]
            assert charset.adapt(prediction) == row["prediction_adapted"]
            hits += charset.adapt(prediction) == label
            words += 1
    assert words == told["num_samples"]
    assert 100 * hits / words == pytest.approx(told["accuracy_percent"])


@pytest.mark.reference
def test_decoding_is_the_published_one(stored: dict[str, Any], arrays: Any) -> None:
    for case in stored["decoding"]:
        charset = Charset(case["charset"])
        readings = charset.decode(torch.from_numpy(arrays[case["arrays"][1]]))
        assert [reading.text for reading in readings] == case["strings"]
        assert [list(reading.token_probs) for reading in readings] == case["token_probabilities"]
        assert [reading.confidence for reading in readings] == pytest.approx(case["confidence"], rel=1e-6)
        assert charset.encode(case["encode_example"]["labels"]).tolist() == case["encode_example"]["ids"]
        assert (charset.end_id, charset.start_id, charset.pad_id) == tuple(
            case["ids"][k] for k in ("eos", "bos", "pad")
        )


def test_length_is_checked_before_characters_are_removed() -> None:
    charset = Charset.load("36")
    assert charset.clean("a" + "!" * 24) == "a"
    assert charset.clean("a" + "!" * 25) is None
    assert charset.drop_reason("a" + "!" * 25) == "too long"
    assert charset.drop_reason("!?") == "empty"
    assert charset.drop_reason("Hello!") is None
    assert charset.outside("Hello!?") == "!?"


def test_ties_take_the_lowest_id_and_a_word_without_end_is_not_cut() -> None:
    charset = Charset("ab")
    probabilities = torch.tensor([[[0.0, 0.5, 0.5], [0.2, 0.1, 0.7]]])
    reading = charset.decode(probabilities)[0]
    assert (reading.text, len(reading.token_probs)) == ("ab", 2)
    assert reading.confidence == pytest.approx(0.35)


def test_an_alphabet_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "alphabet.txt"
    file.write_text("äöü\nß-\n", encoding="utf-8")
    assert Charset.load(str(file)).characters == "äöüß-"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        Charset.load(str(file))
    with pytest.raises(UserError, match="37"):
        Charset.load("37")


@pytest.mark.parametrize("characters", ["", "aba"])
def test_a_useless_alphabet_is_refused(characters: str) -> None:
    with pytest.raises(UserError, match="alphabet"):
        Charset(characters)


def test_a_label_outside_the_alphabet_is_named() -> None:
    with pytest.raises(UserError, match=r"'a-b'.*'-'"):
        Charset.load("36").encode(["ok", "a-b"])


def test_a_charset_can_be_pickled() -> None:
    charset = Charset.load("62")
    assert charset.ids["a"] == 11
    assert pickle.loads(pickle.dumps(charset)) == charset  # noqa: S301  what the test pickled itself


@given(st.text(max_size=40), st.sampled_from(sorted(CHARSETS)))
def test_cleaning_twice_changes_nothing(label: str, name: str) -> None:
    charset = Charset.load(name)
    cleaned = charset.clean(label)
    if cleaned is None:
        assert charset.drop_reason(label) is not None
    else:
        assert charset.drop_reason(label) is None
        assert charset.clean(cleaned) == cleaned == charset.adapt(cleaned)
        assert charset.outside(cleaned) == ""
        assert 0 < len(cleaned) <= 25


@given(st.lists(st.text(alphabet=CHARSETS["94"], min_size=1, max_size=25), min_size=1, max_size=5))
def test_what_is_encoded_is_decoded(labels: list[str]) -> None:
    charset = Charset.load("94")
    encoded = charset.encode(labels)
    assert encoded.shape == (len(labels), max(map(len, labels)) + 2)
    assert (encoded[:, 0] == charset.start_id).all()
    targets = encoded[:, 1:].masked_fill(encoded[:, 1:] == charset.pad_id, charset.end_id)
    probabilities = torch.nn.functional.one_hot(targets, len(charset.characters) + 1).float()
    readings = charset.decode(probabilities)
    assert [reading.text for reading in readings] == labels
    assert [len(reading.token_probs) for reading in readings] == [len(label) + 1 for label in labels]
