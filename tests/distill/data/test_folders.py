"""Folders of pictures, with labels and without; and the search for pictures."""

from __future__ import annotations

import io
import logging
import os
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data.batch import collate
from distill.data.datasets import WordDataset, load_words
from distill.data.folders import FolderRecords, PictureRecords, find_pictures, list_names, walk_files
from distill.data.overlap import find_overlaps
from distill.data.records import BadRecordError, Records
from distill.data.samples import WordOptions
from distill.data.sections import SourceSection
from distill.data.trees import open_all, open_sets
from distill.data.writing import LmdbWriter
from distill.evaluation.benchmarks import open_benchmarks
from students.charset import Charset
from students.errors import UserError

CHARSET = Charset.load("36")
UNREAD = SourceSection(labels="pseudo"), WordOptions(max_corrupt=0.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "mine"
    (path / "sub").mkdir(parents=True)
    Image.new("RGB", (30, 10), "red").save(path / "1.png")
    Image.new("L", (30, 10), 7).save(path / "sub" / "2.png")
    return path


FORMS = {
    "labels.tsv": '1.png\t"Say" it\nsub/2.png\tTWO, three\n\n',
    "labels.csv": '1.png,"""Say"" it"\nsub/2.png,"TWO, three"\n',
    "labels.jsonl": '{"image": "1.png", "label": "\\"Say\\" it"}\n{"file": "sub/2.png", "text": "TWO, three"}\n',
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_words(folder: Path, name: str) -> None:
    (folder / name).write_text(FORMS[name], encoding="utf-8")
    records = FolderRecords(folder)
    assert isinstance(records, Records)
    assert list(records.labels()) == [(0, '"Say" it'), (1, "TWO, three")]
    assert records.image(1) == (folder / "sub" / "2.png").read_bytes()
    assert records.describe(1) == "sub/2.png of mine"
    words = load_words(folder, Charset.load("36"))
    assert [words[index].label for index in range(2)] == ["sayit", "twothree"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../1.png", "sub/../../1.png", "..\\1.png", "C:/1.png"])
def test_names_must_stay_inside(folder: Path, name: str) -> None:
    (folder / "labels.tsv").write_text(f"1.png\tok\n{name}\tword\n")
    with pytest.raises(UserError, match=r"line 2.*out of the folder"):
        FolderRecords(folder)


def test_a_link_must_not_lead_out(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / "labels.tsv").write_text("link.png\tword\ngone.png\tword\n")
    records = FolderRecords(folder)
    with pytest.raises(BadRecordError, match="out of the folder"):
        records.image(0)
    with pytest.raises(BadRecordError, match=r"gone\.png of mine.*No such file"):
        records.image(1)


def test_a_folder_without_labels_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"labels\.tsv"):
        FolderRecords(folder)
    (folder / "labels.tsv").write_text("1.png\t!!!\n")
    with pytest.raises(UserError, match="no word is left"):
        WordDataset(FolderRecords(folder), Charset.load("36"))


def test_the_fingerprint_follows_the_files(folder: Path) -> None:
    (folder / "labels.tsv").write_text("1.png\tword\n")
    before = FolderRecords(folder).fingerprint()
    assert FolderRecords(folder).fingerprint() == before
    Image.new("RGB", (31, 10), "blue").save(folder / "1.png")
    assert FolderRecords(folder).fingerprint() != before


def test_pictures_of_one_name_in_two_folders_have_two_fingerprints(tmp_path: Path) -> None:
    prints = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "1.png")
        os.utime(tmp_path / name / "1.png", (1e9, 1e9))
        (tmp_path / "labels.tsv").write_text(f"{name}/1.png\tword\n")
        os.utime(tmp_path / "labels.tsv", (1e9, 1e9))
        prints.add(FolderRecords(tmp_path).fingerprint())
    assert len(prints) == 2


@pytest.mark.parametrize("cache", ["blobs", "objects/ab", "anything"])
def test_a_folder_of_links_into_a_download_cache_is_read(tmp_path: Path, cache: str) -> None:
    (tmp_path / cache).mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / cache / "1111", "PNG")
    (tmp_path / cache / "2222").write_text("a.png\tword\nb.png\tpass\n")
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    folder = tmp_path / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (folder / "labels.tsv").symlink_to(tmp_path / cache / "2222")
    (folder / "a.png").symlink_to(tmp_path / cache / "1111")
    (folder / "b.png").symlink_to(tmp_path / "secret.png")
    records = FolderRecords(folder)
    assert records.image(0) == (tmp_path / cache / "1111").read_bytes()
    with pytest.raises(BadRecordError, match=r"b\.png of abc is a link that leads out of the folder, to .*secret"):
        records.image(1)


def test_pictures_that_no_label_file_names_are_listed(folder: Path) -> None:
    (folder / "labels.tsv").write_text("./1.png\tword\n1.png\tword\n")
    (folder / "notes.txt").touch()
    records = FolderRecords(folder)
    assert (len(records), records.repeated, records.unlisted()) == (1, 1, ["sub/2.png"])


def test_two_label_files_in_one_folder_are_refused(folder: Path) -> None:
    for name in ("labels.csv", "labels.jsonl"):
        (folder / name).write_text(FORMS[name], encoding="utf-8")
    with pytest.raises(UserError, match=r"labels\.csv and labels\.jsonl; remove all but one"):
        FolderRecords(folder)
    assert len(FolderRecords(folder, folder / "labels.csv")) == 2
    with pytest.raises(UserError, match="remove all but one"):
        open_sets(folder.parent)


@pytest.mark.parametrize(("stored", "listed"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_accents_in_names_may_be_stored_in_another_form(folder: Path, stored: str, listed: str) -> None:
    (folder / "1.png").rename(folder / unicodedata.normalize(stored, "Gr\u00fc\u00dfe.png"))
    (folder / "labels.tsv").write_text(unicodedata.normalize(listed, "Gr\u00fc\u00dfe.png\tword\n"), encoding="utf-8")
    records = FolderRecords(folder)
    assert records.image(0)
    assert records.unlisted() == ["sub/2.png"]


def test_what_is_no_ordinary_file_is_a_bad_record(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "labels.tsv").write_text("pipe.png\tword\nsub\tword\n")
    records = FolderRecords(folder)
    for position in (0, 1):
        with pytest.raises(BadRecordError, match="no ordinary file"):
            records.image(position)


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
    actual = walk_files(tree, [tree / "labelled", tree / "stored"])
    names = [str(file.relative_to(tree)) for file in actual.pictures]
    assert names == ["b.png", "deep/er/a.JPG", "deep/z.webp", "torn.png"]
    assert actual.others == [tree / "notes.txt"]


def test_every_ending_that_pillow_opens_is_found_and_the_rest_is_listed(tmp_path: Path) -> None:
    pictures = ["a.png", "b.avif", "c.jfif", "d.jpe", "e.jp2", "f.QOI", "g.dds"]
    others = ["h.pdf", "i.txt", "j.eps", "noending"]
    for name in (*pictures, *others, "labels.tsv", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "z.png").touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    actual = find_pictures([tmp_path, tmp_path / "noending"])
    assert [file.name for file in actual.pictures] == [*pictures[:6], "z.png", pictures[6], "noending"]
    assert sorted(file.name for file in actual.others) == sorted([*others, "gone.png", "pipe.png"])


def test_places_without_pictures_are_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "i.txt").touch()
    with pytest.raises(UserError, match="no pictures in this folder"):
        find_pictures([tmp_path])
    with pytest.raises(UserError, match="no such file or folder"):
        find_pictures([tmp_path / "gone.png"])


def test_all_words_of_a_tree(tree: Path) -> None:
    labelled, unlisted, stored, pictures = open_all(tree)
    assert [records.name for records in open_sets(tree)] == [labelled.name, stored.name] == ["labelled", "stored"]
    assert isinstance(pictures, PictureRecords)
    assert isinstance(unlisted, PictureRecords)
    assert list(unlisted.labels()) == [(0, None)], "one that the label file doesn't name"
    assert isinstance(pictures, Records)
    assert len(pictures) == 4
    (tree / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures, at any depth"):
        open_all(tree / "empty")


def test_a_picture_without_a_label_is_a_record(tree: Path) -> None:
    records = PictureRecords(tree, walk_files(tree / "deep").pictures)
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
    assert len(words) == 7, "what the alphabet can't write counts too"
    with caplog.at_level(logging.WARNING):
        batch = collate([pickle.loads(pickle.dumps(words)).sample(index, 0) for index in range(7)])  # noqa: S301  our own
    assert "torn.png" in caplog.text
    assert batch.labels == [""] * 7
    assert bool((batch.columns == -1).all()), "nor are its columns known"
    remaining = batch.select([4, 2], ["one", "two"])
    assert remaining.labels == ["one", "two"]
    assert remaining.indices.tolist() == [4, 2]
    assert remaining.sources == ("tree", "stored")
    assert bool((remaining.images == batch.images[[4, 2]]).all())


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
    actual = find_overlaps(tree, tmp_path / "test", tmp_path / "cache")
    assert [(overlap.label, overlap.train) for overlap in actual] == [
        ("word3", "deep/z.webp of tree"), ("word9", "record 1 of stored"),
    ]  # fmt: skip


def test_a_picture_that_is_not_there_is_found_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(noise(number))
    lines = "".join(f"{number}.png\tword{number}\n" for number in range(4))
    (tmp_path / "labels.tsv").write_text(lines, encoding="utf-8")
    records, charset = FolderRecords(tmp_path), Charset.load("36")
    assert list(records.missing()) == [3]
    for allowed in (0.0, 0.2):
        with pytest.raises(UserError, match=r"1 of 4 records corrupt, the last: 3\.png of .* isn't there"):
            WordDataset(records, charset, options=WordOptions(max_corrupt=allowed))
    assert len(WordDataset(records, charset, options=WordOptions(max_corrupt=0.25))) == 4
    assert "skipped (1 of 4 so far): 3.png" in caplog.text
    with pytest.raises(UserError, match=r"3\.png of .* isn't there; check-lmdb names all such records"):
        open_benchmarks(tmp_path, "all", charset)


def test_a_set_in_a_set_is_refused(tree: Path) -> None:
    (tree / "labelled" / "more" / "labels.csv").write_text("a.png,word\n")
    with pytest.raises(UserError, match=r"labelled is a set, and so is .*labelled/more inside it; move one"):
        open_sets(tree)


def test_names_that_are_no_utf8_can_be_printed(tmp_path: Path) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    file.write_bytes(noise(1))
    (records,) = open_all(tmp_path)
    assert records.describe(0).startswith("caf\\xe9.png of ")
    assert list_names([file]).endswith("caf\\xe9.png")


def test_links_to_folders_are_told(tree: Path) -> None:
    (tree / "deep" / "link").symlink_to(tree / "labelled")
    assert tree / "deep" / "link" in walk_files(tree / "deep").others


def test_folder_and_file_may_be_stored_in_different_forms(tmp_path: Path) -> None:
    folder, file = unicodedata.normalize("NFC", "Übung"), unicodedata.normalize("NFD", "ö.jpg")
    (tmp_path / folder).mkdir()
    (tmp_path / folder / file).write_bytes(b"picture")
    (tmp_path / "labels.tsv").write_text("Übung/ö.jpg\tword\n", encoding="utf-8")
    records = FolderRecords(tmp_path)
    assert (records.image(0), records.unlisted()) == (b"picture", [])


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Labels.tsv", "call it labels.tsv"), ("labels.json", "save its labels as labels.tsv"), ("config.json", "")],
)
def test_what_may_hold_the_labels_is_named(name: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=f"{name} is no label file by its name: {hint}" if hint else "at any depth$"):
        open_sets(tmp_path)


def test_a_label_file_above_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "labels.csv").write_text("train/a.png,word\n")
    with pytest.raises(UserError, match=f"a label file lies in {tmp_path}: give that folder"):
        open_sets(tmp_path / "train")
    with pytest.raises(UserError, match="is a file; give the folder that holds it"):
        open_sets(tmp_path / "labels.csv")
