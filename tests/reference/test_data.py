"""Labels, scores, token ids and pictures as the published programs make them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from PIL import Image
from torch import Tensor

from distill.evaluation.metrics import similarity, tally
from students.charset import CHARSETS, Charset
from students.decoding import decode_probabilities
from students.pictures import decode_picture, resize, to_tensor
from tests.reference.cases import Case, cases

PICTURE = re.compile(r"image(\d+)_(?:rotated(\d+)_)?(?:resized_)?(\d+)(?:x(\d+))?(_uint8)?")
"""Names of pictures that were made from another one: its number, turn, height, width, and whether not normalised."""


def of(key: str) -> Any:
    """Return a function that lists what a case holds under `key`."""
    return lambda case: list(case.numbers.get(key, ()))


@pytest.mark.parametrize("case", cases("data"))
def test_alphabets_are_in_the_published_order(case: Case) -> None:
    for name, characters in case.numbers["charsets"].items():
        assert CHARSETS.get(name, characters) == characters


@pytest.mark.parametrize(("case", "key"), cases("data", of("processed")))
def test_clean_labels(case: Case, key: str) -> None:
    name, *settings = key.split("|")
    given = {"max_label_len": str(case.numbers["max_label_len"]), "remove_whitespace": "True",
             "normalize_unicode": "True", **dict(setting.split("=") for setting in settings)}  # fmt: skip
    longest = int(given["max_label_len"])
    rules = [given[rule] == "True" for rule in ("remove_whitespace", "normalize_unicode")]
    charset = Charset(case.numbers["charsets"][name])
    actual = [charset.clean(label, longest, *rules) for label in case.numbers["raw_labels"]]
    assert actual == case.numbers["processed"][key]


@pytest.mark.parametrize(("case", "name"), cases("data", of("charset_adapter")))
def test_adapted_predictions(case: Case, name: str) -> None:
    charset, expected = Charset(case.numbers["charsets"][name]), case.numbers["charset_adapter"][name]
    assert {text: charset.adapt(text) for text in expected} == expected


@pytest.mark.parametrize(
    ("case", "name"), cases("data", lambda case: case.numbers.get("comparison", {}).get("by_test_charset", ()))
)
def test_scores(case: Case, name: str) -> None:
    charset, expected = Charset(case.numbers["charsets"][name]), case.numbers["comparison"]["by_test_charset"][name]
    read: list[tuple[str, str]] = []
    for (prediction, truth), row in zip(case.numbers["comparison"]["pairs"], expected["rows"], strict=True):
        label = charset.clean(truth, case.numbers["max_label_len"])
        assert (label is None) == (row is None)
        if label is None:
            continue
        adapted = charset.adapt(prediction)
        assert (adapted, label) == (row["prediction_adapted"], row["ground_truth_processed"])
        assert (adapted == label) == row["correct"]
        assert 1 - similarity(adapted, label) == pytest.approx(row["normalised_distance"], abs=1e-12)
        read.append((adapted, label))
    counted = tally([adapted for adapted, _ in read], [label for _, label in read])
    assert counted.words == expected["num_samples"]
    assert counted.accuracy == pytest.approx(expected["accuracy_percent"], abs=1e-9)
    assert counted.one_minus_ned == pytest.approx(expected["one_minus_ned_percent"], abs=1e-9)


@pytest.mark.parametrize(("case", "number"), cases("data", lambda case: range(len(case.numbers.get("decoding", ())))))
def test_decoding(case: Case, number: int) -> None:
    expected = case.numbers["decoding"][number]
    charset = Charset(expected["charset"])
    logits, probabilities = map(case.tensor, expected["arrays"])
    torch.testing.assert_close(logits.softmax(dim=-1), probabilities)
    readings = decode_probabilities(charset, probabilities)
    assert [reading.text for reading in readings] == expected["strings"]
    assert [list(reading.token_probs) for reading in readings] == expected["token_probabilities"]
    assert [reading.confidence for reading in readings] == pytest.approx(expected["confidence"], rel=1e-6)
    assert charset.encode(expected["encode_example"]["labels"]).tolist() == expected["encode_example"]["ids"]
    ids = expected["ids"]
    assert (charset.end_id, charset.start_id, charset.pad_id) == (ids["eos"], ids["bos"], ids["pad"])
    assert (charset.pad_id + 1, probabilities.shape[2]) == (ids["number_of_tokens"], ids["number_of_classes"])


def pictures(case: Case) -> Iterator[str]:
    """Name the pictures that were made from others."""
    return (name for name in case.arrays if PICTURE.fullmatch(name))


def normalised_for_clip(images: Tensor) -> Tensor:
    """Bring pictures from a student's normalisation to OpenAI's."""
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return (images * 0.5 + 0.5 - mean) / std


@pytest.mark.parametrize(("case", "name"), cases("data", pictures))
def test_pictures(case: Case, name: str) -> None:
    match = PICTURE.fullmatch(name)
    assert match is not None
    picture = Image.fromarray(case.arrays[f"image{match[1]}_uint8"])
    if match[2]:
        picture = picture.rotate(int(match[2]), expand=True)
    size = (int(match[3]), int(match[4] or match[3]))
    if match[5]:
        assert np.array_equal(resize(picture, size), case.arrays[name])
        return
    image = to_tensor([picture], size)[0]
    # One number for both sides is the square input of CLIP, with its own mean and deviation.
    expected, image = case.tensor(name), image if match[4] else normalised_for_clip(image)
    torch.testing.assert_close(image, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("case", "name"), cases("data", lambda case: (name for name in case.arrays if name.endswith("_png")))
)
def test_files_of_other_modes_become_rgb(case: Case, name: str) -> None:
    stored = case.arrays[name].tobytes()
    mode = case.numbers["images"][int(re.sub(r"\D", "", name))]["stored_mode"]
    assert Image.open(io.BytesIO(stored)).mode == mode
    assert np.array_equal(np.asarray(decode_picture(stored)), case.arrays[name.replace("_png", "_uint8")])
