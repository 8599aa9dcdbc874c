"""What readers that label say of the characters of a label."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from distill.deployment.readers import ModelReader
from distill.labelling.readers import LabelReader, Read, check_charset, labels_charset
from students.charset import Charset
from students.ctc import CtcReader
from students.decoding import Reading
from students.errors import UserError
from students.pictures import to_tensor
from students.student import Student, StudentConfig


def config(charset: str, decoding: str) -> StudentConfig:
    return StudentConfig(
        charset=charset, max_length=6, encoder="conv", stem=(4, 4, 8), width=16, depth=3, heads=2, mlp_ratio=1.0,
        decoder_depth=3, decoder_heads=2, decoder_mlp_ratio=1.0, dropout=0.0, column_head=True, taps="even",
        decoding=decoding,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def ctc() -> ModelReader:
    return ModelReader(CtcReader(config("abÄ", "ctc")), "ctc")


def test_columns_are_pooled_over_all_alignments(ctc: ModelReader) -> None:
    # Brute force: every path of five columns that reads the label, weighted by its probability.
    columns, label = np.random.default_rng(0).dirichlet(np.ones(4), 5), [1, 2]
    folded = np.column_stack([columns[:, 0], columns[:, 1] + columns[:, 3], columns[:, 2]])  # Ä is an A to the labels
    pooled, total = np.zeros((2, 2)), 0.0
    for path in itertools.product(range(3), repeat=5):
        merged = [key for key, _ in itertools.groupby(path)]
        if [key for key in merged if key] != label:
            continue
        probability = np.prod([folded[place, key] for place, key in enumerate(path)])
        total += probability
        character = -1
        for place, key in enumerate(path):
            character += key != 0 and (place == 0 or path[place - 1] != key)
            if key:
                pooled[character] += probability * folded[place, 1:]
    assert total > 0
    reader = LabelReader(ctc, Charset("ab"))
    read = Read(Reading("aa", 0.5, ()), np.log(folded).astype(np.float32))
    given = reader.distributions(read, "ab")
    assert given is not None
    np.testing.assert_allclose(given, np.pad(pooled / pooled.sum(axis=1, keepdims=True), ((0, 0), (1, 0))), atol=1e-5)


def test_what_the_labels_lack_is_left_out_and_folded_characters_are_added_up(ctc: ModelReader) -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 128, 3), np.uint8))
    (read,) = LabelReader(ctc, Charset("a")).read([picture])
    with torch.inference_mode():
        probs = ctc.model.eval()(to_tensor([picture]))[0].softmax(dim=-1).numpy()
    assert read.log_probs is not None
    np.testing.assert_allclose(np.exp(read.log_probs), np.column_stack([probs[:, 0], probs[:, 1] + probs[:, 3]]), 1e-5)


def test_a_reader_of_any_width_reads_as_it_does_elsewhere() -> None:
    torch.manual_seed(2)
    model = CtcReader(dataclasses.replace(config("abcdef", "ctc"), image_size=(32, 256), keep_aspect=True))
    noise = np.random.default_rng(1)
    pictures = [Image.fromarray(noise.integers(0, 256, (32, width, 3), np.uint8)) for width in (40, 200, 60, 190)]
    reads = LabelReader(ModelReader(model, "wide"), model.charset).read(pictures)
    for read, reading in zip(reads, model.read(pictures), strict=True):
        assert read.reading.text == reading.text
        assert read.reading.confidence == pytest.approx(reading.confidence, rel=1e-4)
    assert reads[0].log_probs is not None
    assert reads[1].log_probs is not None
    assert len(reads[0].log_probs) < len(reads[1].log_probs)


def test_a_label_that_does_not_fit_or_cannot_be_spelt_has_none(ctc: ModelReader) -> None:
    read = Read(Reading("a", 0.5, ()), np.log(np.full((3, 4), 0.25, np.float32)))
    reader = LabelReader(ctc, Charset("abc"))
    assert reader.distributions(read, "aab") is None, "four columns needed"
    assert reader.distributions(read, "abc") is None, "no c"
    assert reader.distributions(read, "ab") is not None


def test_an_attention_reader_has_them_for_what_it_reads_with_the_end() -> None:
    torch.manual_seed(3)
    model = Student(config("abcdef", "ar")).eval()
    reader = LabelReader(ModelReader(model, "ar"), Charset("fedcba"))
    noise = np.random.default_rng(1).integers(0, 256, (8, 32, 128, 3), np.uint8)
    for read in reader.read([Image.fromarray(picture) for picture in noise]):
        text = read.reading.text
        given = reader.distributions(read, text)
        assert read.log_probs is not None
        ended = len(read.log_probs) > len(text)
        assert (given is None) == (not ended)
        assert reader.distributions(read, text + "a") is None
        if given is not None:
            np.testing.assert_allclose(given, np.exp(read.log_probs[: len(text) + 1]), atol=1e-6)


def test_the_alphabet_of_the_labels() -> None:
    lower = ModelReader(Student(config("abc1", "ar")), "lower")
    assert labels_charset(None, lower).characters == "abc1"
    both = ModelReader(Student(config("aAé", "ar")), "both")
    assert labels_charset(None, both) == Charset.load("94")
    assert labels_charset("36", both) == Charset.load("36")
    check_charset([both, lower], Charset("abcé"))
    with pytest.raises(UserError, match="lower reads lower case alone"):
        check_charset([both, lower], Charset.load("94"))
