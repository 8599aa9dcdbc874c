"""WordDataset: label rules, samples, corrupt records, the pixel cache; images as the published programs see them."""

from __future__ import annotations

import io
import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from distill.data.batch import collate
from distill.data.datasets import ConcatWords, WordDataset, load_words
from distill.data.describing import describe_words
from distill.data.lmdb_reader import LmdbRecords
from distill.data.samples import WordOptions
from distill.data.sections import SourceSection
from distill.data.writing import LmdbWriter
from students.charset import Charset
from students.errors import UserError
from students.pictures import decode_picture, to_tensor

CHARSET = Charset.load("36")


def picture(shade: int, size: tuple[int, int] = (40, 16)) -> bytes:
    noise = np.random.default_rng(shade).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with LmdbWriter(tmp_path / "words") as writer:
        writer.add(picture(1), "Hello", bytes([72] * 10 + [0] * 4 + [111] * 18))
        writer.add(picture(2), "?!")
        writer.add(b"no picture", "broken")
        writer.add(picture(4), "x" * 26)
        writer.add(picture(5), "wörld 5", b"short")
    return tmp_path / "words"


def test_keeps_what_the_alphabet_can_write(folder: Path) -> None:
    words = WordDataset(LmdbRecords(folder), CHARSET, options=WordOptions(max_corrupt=0.5))
    assert (len(words), words.selection and words.selection.dropped) == (3, {"empty": 1, "too long": 1})
    assert [words.label(index) for index in range(3)] == ["hello", "broken", "world5"]
    sample = words[0]
    assert (sample.label, sample.index, sample.source) == ("hello", 0, "words")
    assert torch.equal(sample.image, to_tensor([decode_picture(picture(1))])[0])
    assert sample.columns is not None
    assert sample.columns.tolist() == [CHARSET.ids["h"]] * 10 + [0] * 4 + [CHARSET.ids["o"]] * 18
    assert words[2].columns is None, "columns of another length say nothing"


def test_characters_outside_the_alphabet_have_no_column(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "words") as writer:
        writer.add(picture(1), "a-B", b"a" * 8 + b"-" * 8 + b"B" * 8 + b"\xff" * 8)
    columns = WordDataset(LmdbRecords(tmp_path / "words"), Charset.load("62"))[0].columns
    ids = Charset.load("62").ids
    assert columns is not None
    assert columns.tolist() == [ids["a"]] * 8 + [0] * 8 + [ids["B"]] * 8 + [0] * 8


def test_a_batch_marks_unknown_columns(folder: Path) -> None:
    words = WordDataset(LmdbRecords(folder), CHARSET, options=WordOptions(max_corrupt=0.5))
    batch = collate([words[0], words[2]])
    assert (batch.labels, batch.indices.tolist(), len(batch)) == (["hello", "world5"], [0, 2], 2)
    assert batch.images.shape == (2, 3, 32, 128)
    assert (batch.columns[1] == -1).all()
    assert batch.columns[0].max() > 0
    assert batch.to("cpu").sources == ("words", "words")


def test_a_corrupt_record_is_named_and_replaced(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = WordDataset(LmdbRecords(folder), CHARSET, options=WordOptions(max_corrupt=0.2))
    with caplog.at_level(logging.WARNING):
        assert words[1].label == "world5"
        assert words[1].label == "world5"
    assert [record.getMessage() for record in caplog.records if "record 3 of words" in record.getMessage()] != []
    assert len(caplog.records) == 1, "named once"


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_training_sees_pictures_as_readers_do(tmp_path: Path, cache: str) -> None:
    grey = Image.fromarray(np.random.default_rng(3).integers(0, 256, (16, 40), dtype=np.uint8))
    turned, ink = Image.Exif(), Image.new("RGBA", grey.size, "black")
    turned[0x0112] = 6
    ink.putalpha(grey)
    pictures = [
        (grey.convert("RGB"), "JPEG", {"exif": turned}), (ink, "PNG", {}), (ink, "WEBP", {}),
        (Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG", {}), (grey.convert("P"), "GIF", {}),
    ]  # fmt: skip
    stored = []
    with LmdbWriter(tmp_path / "words") as writer:
        for image, form, options in pictures:
            file = io.BytesIO()
            image.save(file, form, **options)
            writer.add(file.getvalue(), "a")
            stored.append(file.getvalue())
    words = WordDataset(LmdbRecords(tmp_path / "words"), CHARSET, SourceSection(cache=cache))  # type: ignore[arg-type]
    expected = to_tensor([decode_picture(data) for data in stored])
    assert torch.equal(torch.stack([words[index].image for index in range(len(words))]), expected)


@pytest.mark.parametrize("form", ["AVIF", "TIFF", "DDS", "WEBP", "JPEG2000", "PNG", "JPEG"])
def test_whatever_a_decoder_raises_is_a_corrupt_record(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    file = io.BytesIO()
    Image.open(io.BytesIO(picture(1))).save(file, form)
    with LmdbWriter(tmp_path / "words") as writer:
        writer.add(picture(1), "good")
        writer.add(file.getvalue()[: len(file.getvalue()) * 2 // 3], "damaged")
    words = WordDataset(LmdbRecords(tmp_path / "words"), CHARSET, options=WordOptions(max_corrupt=0.5))
    with caplog.at_level(logging.WARNING):
        assert words[1].label == "good"
    assert "record 2 of words can't be read as a picture" in caplog.text


def test_too_many_corrupt_records_are_an_error(folder: Path) -> None:
    words = WordDataset(LmdbRecords(folder), CHARSET, options=WordOptions(max_corrupt=0.0))
    assert words[0].label == "hello"
    with pytest.raises(UserError, match="record 3 of words can't be read as a picture"):
        words[1]


def test_missing_labels_count_as_corrupt(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "words") as writer:
        writer.add(picture(1), "a")
        writer.count += 1
    assert WordDataset(
        LmdbRecords(tmp_path / "words"), CHARSET, options=WordOptions(max_corrupt=0.5)
    ).selection.dropped == {"no label": 1}
    with pytest.raises(UserError, match="1 of 2 records without a label"):
        WordDataset(LmdbRecords(tmp_path / "words"), CHARSET)


@pytest.mark.parametrize("augmentation", ["light", "strong"])
def test_augmentation_follows_from_seed_epoch_and_index(folder: Path, augmentation: str) -> None:
    def image(seed: int, index: int, epoch: int) -> torch.Tensor:
        source = SourceSection(augmentation=augmentation)  # type: ignore[arg-type]
        words = WordDataset(LmdbRecords(folder), CHARSET, source, WordOptions(max_corrupt=0.5, seed=seed))
        words.sample(0, 3)
        return words.sample(index, epoch).image

    first = [image(0, 0, epoch) for epoch in range(6)]
    assert all(torch.equal(one, image(0, 0, epoch)) for epoch, one in enumerate(first))
    assert len({one.numpy().tobytes() for one in first}) > 2
    assert any(not torch.equal(one, image(1, 0, epoch)) for epoch, one in enumerate(first))


def test_the_cache_gives_the_same_pixels(folder: Path) -> None:
    cached = SourceSection(augmentation="light", cache="memory"), WordOptions(max_corrupt=0.5)
    plain = WordDataset(LmdbRecords(folder), CHARSET, SourceSection(augmentation="light"), WordOptions(max_corrupt=0.5))
    words = WordDataset(LmdbRecords(folder), CHARSET, *cached)
    files = sorted(file.name.split("-")[0] for file in folder.iterdir())
    assert files == ["data.mdb", "pixels", "readable"]
    written = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    again = pickle.loads(pickle.dumps(WordDataset(LmdbRecords(folder), CHARSET, *cached)))  # noqa: S301  pickled here
    for index in (0, 1, 2):
        for epoch in (0, 5):
            expected = plain.sample(index, epoch)
            for actual in (words.sample(index, epoch), again.sample(index, epoch)):
                assert actual.label == expected.label
                assert torch.equal(actual.image, expected.image)
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written, "made once"
    assert len(pickle.dumps(words)) < 2_000_000


def test_the_cache_of_read_only_data_lies_with_the_user(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder)
    WordDataset(LmdbRecords(folder), CHARSET, SourceSection(cache="memory"))
    assert len(list((tmp_path / "home" / "symdistill").glob("pixels-words-*.npy"))) == 1
    assert [file.name for file in folder.iterdir()] == ["data.mdb"]


def test_strong_augmentation_needs_the_original_pictures(folder: Path) -> None:
    with pytest.raises(UserError, match="cache: none"):
        WordDataset(LmdbRecords(folder), CHARSET, SourceSection(augmentation="strong", cache="memory"))


def test_sets_are_put_together_in_order(tmp_path: Path) -> None:
    for name, labels in (("b", ["c", "d"]), ("a", ["a", "?", "b"])):
        with LmdbWriter(tmp_path / "tree" / name) as writer:
            for number, label in enumerate(labels):
                writer.add(picture(number), label)
    words = load_words(tmp_path / "tree", CHARSET)
    assert [(words[i].label, words[i].index, words[i].source) for i in range(len(words))] == [
        ("a", 0, "a"), ("b", 1, "a"), ("c", 2, "b"), ("d", 3, "b"),
    ]  # fmt: skip
    twice = ConcatWords([words, words])
    assert (len(twice), twice[6].label, twice[6].index) == (8, "c", 6)
    with pytest.raises(IndexError):
        twice[8]


def test_some_words_of_several_sets_are_drawn(tmp_path: Path) -> None:
    for part in range(2):
        with LmdbWriter(tmp_path / f"words/{part}") as writer:
            for number in range(20):
                writer.add(picture(number), f"{'ab'[part]}{number}")

    def drawn(count: int) -> set[str]:
        words = load_words(tmp_path / "words", CHARSET, SourceSection(words=count))
        samples = [words.sample(index, 0) for index in range(len(words))]
        assert [sample.index for sample in samples] == list(range(count)), "caches know a word by its number"
        labels = {sample.label for sample in samples}
        assert len(labels) == count
        return labels

    twelve = drawn(12)
    assert {label[0] for label in twelve} == {"a", "b"}
    assert drawn(1) < drawn(5) < twelve, "fewer words are among more"
    assert drawn(40) == {f"{name}{number}" for name in "ab" for number in range(20)}
    described = describe_words(load_words(tmp_path / "words", CHARSET, SourceSection(words=5)), "to train on")
    assert described == ["5 words to train on: 0, 1, drawn from 40"]
    with pytest.raises(UserError, match=r"words is 41, of 40 that there are; 0 takes all"):
        drawn(41)


def test_a_corrupt_word_is_replaced_by_a_drawn_one(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "words") as writer:
        for number in range(20):
            writer.add(picture(number), f"w{number}")
    source, options = SourceSection(words=4), WordOptions(max_corrupt=0.5)
    words = load_words(tmp_path / "words", CHARSET, source, options)
    labels = [words.sample(index, 0).label for index in range(4)]
    with LmdbWriter(tmp_path / "broken") as writer:
        for number in range(20):
            writer.add(b"no picture" if f"w{number}" == labels[1] else picture(number), f"w{number}")
    words = load_words(tmp_path / "broken", CHARSET, source, options)
    assert [words.sample(index, 0).label for index in range(4)] == [labels[0], labels[2], labels[2], labels[3]]
