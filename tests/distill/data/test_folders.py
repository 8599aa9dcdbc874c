"""Image folders with labels."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from distill.data.datasets import WordDataset, load_words
from distill.data.folders import FolderRecords, read_labels
from distill.data.records import BadRecordError, Records
from students.charset import Charset
from students.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mine"
    (place / "sub").mkdir(parents=True)
    Image.new("RGB", (30, 10), "red").save(place / "1.png")
    Image.new("L", (30, 10), 7).save(place / "sub" / "2.png")
    return place


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


@pytest.mark.parametrize(("header", "row"), [("filename,text", "1.png,a"), ("label,source,file", "a,web,1.png")])
def test_a_first_line_may_name_the_columns(tmp_path: Path, header: str, row: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"{header}\r\n{row}\r\n", encoding="utf-8-sig")
    assert read_labels(file) == [("1.png", "a")]


@pytest.mark.parametrize("name", ["/etc/passwd", "../1.png", "sub/../../1.png", "..\\1.png", "C:/1.png", ""])
def test_names_must_stay_inside(folder: Path, name: str) -> None:
    (folder / "labels.tsv").write_text(f"1.png\tok\n{name}\tword\n")
    with pytest.raises(UserError, match=r"entry 2.*out of the folder"):
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


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("labels.tsv", "1.png label\n", "line 1"),
        ("labels.jsonl", '{"file": "1.png"}\n', "line 1"),
        ("labels.jsonl", '{"file": "1.png", "label": 7}\n', "line 1"),
        ("labels.jsonl", "not json\n", "line 1"),
        ("labels.csv", '1.png,"open\n', "CSV"),
    ],
)
def test_a_broken_label_file_is_refused(folder: Path, name: str, text: str, told: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=told):
        FolderRecords(folder)


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
