"""Pictures without labels: found at any depth, kept whatever they show, and searched by the overlap check."""

from __future__ import annotations

import io
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data.batch import collate
from distill.data.datasets import WordDataset, WordOptions, load_words
from distill.data.overlap import find_overlaps
from distill.data.pictures import PictureRecords, find_pictures
from distill.data.records import BadRecordError, Records
from distill.data.sections import SourceSection
from distill.data.trees import find_all, find_sets
from distill.data.writing import LmdbWriter
from students.charset import Charset
from students.errors import UserError

CHARSET = Charset.load("36")
UNREAD = SourceSection(labels="pseudo"), WordOptions(max_corrupt=0.5)


def noise(seed: int) -> bytes:
    stored = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 64, 3), np.uint8)
    Image.fromarray(pixels).save(stored, format="PNG")
    return stored.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three pictures nobody labelled, one that is broken, an LMDB, a labelled folder, and what is none of these."""
    root = tmp_path / "tree"
    for name, data in {
        "b.png": noise(1), "deep/er/a.JPG": noise(2), "deep/z.webp": noise(3), "torn.png": noise(4)[:99],
        "notes.txt": b"no picture", ".hidden.png": noise(5), ".hidden/c.png": noise(6),
        "labelled/x.png": noise(7), "labelled/labels.tsv": b"x.png\tword\n", "labelled/more/y.png": noise(8),
    }.items():  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    with LmdbWriter(root / "stored") as writer:
        writer.add(noise(9), "?!", bytes([72] * 32))
    return root


def test_pictures_are_found_by_their_names(tree: Path) -> None:
    found = [str(file.relative_to(tree)) for file in find_pictures(tree, [tree / "labelled"])]
    assert found == ["b.png", "deep/er/a.JPG", "deep/z.webp", "torn.png"]


def test_all_words_of_a_tree(tree: Path) -> None:
    labelled, stored, pictures = find_all(tree)
    assert [records.name for records in find_sets(tree)] == [labelled.name, stored.name] == ["labelled", "stored"]
    assert isinstance(pictures, PictureRecords)
    assert isinstance(pictures, Records)
    assert len(pictures) == 4
    (tree / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures, at any depth"):
        find_all(tree / "empty")


def test_a_picture_without_a_label_is_a_record(tree: Path) -> None:
    records = PictureRecords(tree, find_pictures(tree / "deep"))
    assert list(records.labels()) == [(0, None), (1, None)]
    assert records.image(0) == noise(2)
    assert records.columns(0) is None
    assert records.describe(1) == "deep/z.webp of tree"
    with pytest.raises(BadRecordError, match="no label"):
        records.label(0)
    before = records.fingerprint()
    (tree / "deep" / "z.webp").write_bytes(noise(11) + b" ")
    assert records.fingerprint() != before
    (tree / "deep" / "z.webp").unlink()
    with pytest.raises(BadRecordError, match=r"z\.webp of tree can't be read"):
        records.image(1)


def test_words_that_a_teacher_reads_have_no_label(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = load_words(tree, CHARSET, *UNREAD)
    assert len(words) == 6, "what the alphabet can't write counts too"
    with caplog.at_level(logging.WARNING):
        batch = collate([pickle.loads(pickle.dumps(words)).sample(index, 0) for index in range(6)])  # noqa: S301  our own
    assert "torn.png" in caplog.text
    assert batch.labels == [""] * 6
    assert bool((batch.columns == -1).all()), "nor are its columns known"
    kept = batch.select([4, 1], ["one", "two"])
    assert kept.labels == ["one", "two"]
    assert kept.indices.tolist() == [4, 1]
    assert kept.sources == ("tree", "stored")
    assert bool((kept.images == batch.images[[4, 1]]).all())


def test_one_folder_of_pictures_is_a_source(tree: Path) -> None:
    words = load_words(tree / "deep", CHARSET, *UNREAD)
    assert isinstance(words, WordDataset)
    assert (len(words), words.label(0)) == (2, "")
    with pytest.raises(UserError, match="holds no LMDB"):
        load_words(tree / "deep", CHARSET)


def test_the_overlap_check_searches_them_too(tree: Path, tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "test") as writer:
        for seed in (20, 3, 9, 6):
            writer.add(noise(seed), f"word{seed}")
    found = find_overlaps(tree, tmp_path / "test", tmp_path / "cache")
    assert [(overlap.label, overlap.train) for overlap in found] == [
        ("word3", "deep/z.webp of tree"), ("word9", "record 1 of stored"),
    ]  # fmt: skip
