"""Label files of every form, and what is refused in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill.data.label_files import FILE_COLUMNS, LABEL_COLUMNS, LabelFile, is_structured, read_label_file
from students.errors import UserError


def write(folder: Path, text: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    file = folder / name
    file.write_bytes(text.encode(encoding))
    return file


def pairs(actual: LabelFile) -> list[tuple[str, str]]:
    return [(entry.file, entry.label) for entry in actual.entries]


@pytest.mark.parametrize(
    "text",
    [
        "a.png,Harbour\nb.png,\"7,5\"\n",
        "a.png, Harbour\nb.png, \"7,5\"\n",
        "\ufeffa.png,Harbour\r\nb.png,\"7,5\"\r\n",
        "\"a.png\" , \"Harbour\" \n\n\"b.png\" , \"7,5\" ",
        "a.png;Harbour\nb.png;7,5\n",
        "\"a.png\";\"Harbour\"\n\"b.png\";\"7,5\"\n",
        "file;label\na.png;Harbour\nb.png;\"7,5\"\n",
        "filename,words\na.png,Harbour\nb.png,\"7,5\"\n",
        "\ufeff\"Filename\",\"Words\"\na.png,Harbour\nb.png,\"7,5\"\n",
        "image_path,width,label\na.png,100,Harbour\nb.png,101,\"7,5\"\n",
        "image_path,split,transcription\na.png,train,Harbour\nb.png,train,\"7,5\"\n",
        "label,source,file\nHarbour,web,a.png\n\"7,5\",web,./b.png\n",
        "File Name,Text,\na.png,Harbour,\nb.png,\"7,5\",\n",
        "a.png,Harbour\rb.png,\"7,5\"\r",
    ],
)  # fmt: skip
def test_a_csv_gives_pictures_and_labels(tmp_path: Path, text: str) -> None:
    assert pairs(read_label_file(write(tmp_path, text))) == [("a.png", "Harbour"), ("b.png", "7,5")]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.tsv", 'a.png\t"Say" it\nsub/b.png\t7,5\n'),
        ("labels.tsv", '\ufefffile\tlabel\r\na.png\t "Say" it \r\n\r\nsub\\b.png\t7,5\r\n'),
        ("gt.txt", 'a.png\t"Say" it\nsub/b.png\t7,5\n'),
        ("gt.txt", 'a.png, """Say"" it"\nsub/b.png, "7,5"\n'),
        ("labels.jsonl", '{"image": "a.png", "label": "\\"Say\\" it"}\n{"File": "sub/b.png", "text": "7,5"}\n'),
    ],
)
def test_other_forms(tmp_path: Path, name: str, text: str) -> None:
    assert pairs(read_label_file(write(tmp_path, text, name))) == [("a.png", '"Say" it'), ("sub/b.png", "7,5")]


@pytest.mark.parametrize("file", FILE_COLUMNS)
@pytest.mark.parametrize("label", LABEL_COLUMNS)
def test_names_of_columns_are_those_in_use(tmp_path: Path, file: str, label: str) -> None:
    text = f"{label.upper()},{file}\nHarbour,a\n"
    assert pairs(read_label_file(write(tmp_path, text))) == [("a", "Harbour")]
    line = json.dumps({file: "a", label: "Harbour", "width": 9})
    assert pairs(read_label_file(write(tmp_path, line, "labels.jsonl"))) == [("a", "Harbour")]


def test_pictures_need_no_ending_when_they_are_there(tmp_path: Path) -> None:
    (tmp_path / "1111").touch()
    assert pairs(read_label_file(write(tmp_path, "1111,Harbour\n2222,Bank\n"))) == [
        ("1111", "Harbour"),
        ("2222", "Bank"),
    ]
    with pytest.raises(UserError, match="neither a header"):
        read_label_file(write(tmp_path, "2222,Bank\n1111,Harbour\n"))
    (tmp_path / "else").mkdir()
    lists = write(tmp_path / "else", "1111,Harbour\n")
    assert pairs(read_label_file(lists, tmp_path)) == [("1111", "Harbour")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labels.csv", "a.png,100,000\nb.png,hello\n", r"line 1: 3 cells .* double quotes, or write labels\.tsv"),
        ("labels.csv", "a.png,hello\n\nb.png,$1,299.50\n", "line 3: 3 cells"),
        ("labels.csv", "a.png,word,\n", "line 1: 3 cells"),
        ("labels.csv", "filename,words\na.png,Tel\nb.png,7,5\n", "line 3: 3 cells .* the header has 2"),
        ("labels.csv", "file;label\na.png;7;5\n", "line 2: 3 cells"),
        ("labels.csv", "bild,wort\na.png,Harbour\n", "line 1: 'bild | wort' is neither a header with known names"),
        ("labels.csv", "filename,value\na.png,Harbour\n", "line 1: .* neither a header"),
        ("labels.csv", "id,width,label\n1,100,Harbour\n", "line 1: .* neither a header"),
        ("labels.csv", "Harbour,a.png\n", "put the file name first"),
        ("labels.csv", "file,label,text\na.png,Harbour,Harbour\n", "line 1: label and text may both be meant"),
        ("labels.csv", "image,path,label\na,a.png,Harbour\n", "line 1: image and path may both be meant"),
        ("labels.csv", "file,width,label\na.png,100\n", "line 2: needs a file name and a label"),
        ("labels.csv", "a.png\tHarbour\n", "line 1: .* separated by a comma"),
        ("labels.csv", 'a.png,"open\n', "line 1: can't be read as CSV"),
        ("labels.csv", 'a.png,ok\nb.png,"open\nc.png,"next"\n', "line 2: can't be read as CSV"),
        ("labels.csv", 'a.png,ok\nb.png,"open\nc.png,closed"\n', "line 2: a quotation mark is opened and not closed"),
        ("labels.csv", 'a.png,"7"5\n', "line 1: can't be read as CSV"),
        ("labels.csv", "a.png,ok\na.png,other\n", "a.png is 'ok' in line 1 and 'other' in line 2"),
        ("labels.csv", "a.png,ok\n\0.png,other\n", "line 2: .* leads out of the folder"),
        ("labels.tsv", "a.png\tNo.\t7\nb.png\tHarbour\n", r"line 1: 3 cells .* a label can't hold a tab here"),
        ("labels.tsv", "a.png label\n", "line 1: .* separated by a tab"),
        ("labels.tsv", "a.png,label\n", "line 1: .* separated by a tab"),
        ("labels.jsonl", '{"file": "1.png"}\n', "line 1"),
        ("labels.jsonl", '{"file": "1.png", "label": 7}\n', "line 1"),
        ("labels.jsonl", '{"file": "1.png", "label": "a", "text": "b"}\n', "line 1"),
        ("labels.jsonl", '["1.png", "a"]\n', "line 1"),
        ("labels.jsonl", '{"file": "1.png", "label": "a"}\nnot json\n', "line 2"),
        ("labels.jsonl", '{"file": "1.png", "label": "harb\\ud83dour"}\n', "line 1"),
        ("labels.tsv", "x" * 300 + "\tword\n", "line 1: .* neither a header"),
        ("labels.json", "{}", "labels are read from"),
        ("labels.tsv", 'a.png\tok\nb.png\t"5"" pipe"\n', r'line 2: "5"" pipe" is quoted as in a csv.*\(5" pipe\)'),
        ("labels.jsonl", '{"file": "1.png", "label": "one", "label": "two"}\n', "line 1: .* each once"),
        ("labels.csv", "a.png,x\n,y\n", "line 2: names no file; put a file name before 'y'"),
        ("labels.csv", 'a.png, "Tired"\nb.png, "\\"Taj"\n', "line 2: .* write quotation marks within a cell twice"),
        ("labels.tsv", 'a.png\t"1,99"\nb.png\t"wo"\n', "all labels stand in quotation marks, .* or labels.csv"),
        ("labels.tsv", 'label\tfile\n"1,99"\ta.png\n"wo"\tb.png\n', "all labels stand in quotation marks"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        read_label_file(write(tmp_path, text, name))
    assert str(tmp_path / name) in str(refused.value)


def test_quotation_marks_that_belong_to_a_label(tmp_path: Path) -> None:
    spaced = 'a.png , "say ""hi"" , now" \n'
    assert pairs(read_label_file(write(tmp_path, spaced))) == [("a.png", 'say "hi" , now')]
    stand = [("a.png", '"OPEN"'), ("b.png", '5" pipe'), ("c.png", '""""')]
    text = "".join(f"{file}\t{label}\n" for file, label in stand)
    assert pairs(read_label_file(write(tmp_path, text, "labels.tsv"))) == stand
    for text in ('a.png\tword\nb.png\t"1,99"\n', 'file\tlabel\tnote\na.png\tword\t"1"\nb.png\t"1,99"\t"2"\n'):
        assert pairs(read_label_file(write(tmp_path, text, "labels.tsv"))) == [("a.png", "word"), ("b.png", '"1,99"')]


def test_absolute_names_within_the_folder(tmp_path: Path) -> None:
    text = f"{tmp_path}/a.png\tone\n{tmp_path}/in/../b.png\ttwo\n"
    assert pairs(read_label_file(write(tmp_path, text, "labels.tsv"))) == [("a.png", "one"), ("b.png", "two")]
    for name in (f"{tmp_path}/../a.png", f"{tmp_path}x/a.png"):
        with pytest.raises(UserError, match="leads out of the folder"):
            read_label_file(write(tmp_path, f"{name}\tone\n", "labels.tsv"))


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    for encoding in ("utf-16", "latin-1"):
        with pytest.raises(UserError, match="save it as UTF-8"):
            read_label_file(write(tmp_path, "a.png,Grüße\n", encoding=encoding))
    with pytest.raises(UserError, match="no label file that can be read"):
        read_label_file(tmp_path / "gone.csv")


def test_a_picture_that_is_listed_again_counts_once(tmp_path: Path) -> None:
    actual = read_label_file(write(tmp_path, "a.png,ok\nb.png,no\n./a.png,ok\na.png, ok\n"))
    assert (pairs(actual), actual.repeated) == ([("a.png", "ok"), ("b.png", "no")], 2)
    assert [entry.line for entry in actual.entries] == [1, 2]


def test_names_may_hold_a_colon(tmp_path: Path) -> None:
    assert pairs(read_label_file(write(tmp_path, "7:30.png,7:30\n"))) == [("7:30.png", "7:30")]


def test_an_empty_file_has_no_entries(tmp_path: Path) -> None:
    for text in ("", "\n \n", "file,label\n"):
        assert read_label_file(write(tmp_path, text)).entries == ()


def test_one_file_under_two_spellings_of_its_name_has_one_label(tmp_path: Path) -> None:
    composed, apart = "\u00e9.png", "e\u0301.png"
    (tmp_path / composed).touch()
    (tmp_path / "labels.tsv").write_text(f"{composed}\tone\n{apart}\ttwo\n", encoding="utf-8")
    with pytest.raises(UserError, match="is 'one' in line 1 and 'two' in line 2"):
        read_label_file(tmp_path / "labels.tsv")
    (tmp_path / "labels.tsv").write_text(f"{composed}\tone\n{apart}\tone\n", encoding="utf-8")
    assert [entry.file for entry in read_label_file(tmp_path / "labels.tsv").entries] == [composed]


def test_absolute_names_through_a_link_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "data")
    (tmp_path / "data").mkdir()
    file = write(tmp_path / "data", f"{tmp_path}/data/a.png\tone\n", "labels.tsv")
    assert pairs(read_label_file(file, tmp_path / "link")) == [("a.png", "one")]


def test_labels_that_are_json_are_told() -> None:
    assert all(map(is_structured, ('["LIVING", "x"]', '{"text": "LIVING"}', ' ["1"]')))
    assert not any(map(is_structured, ("[A]", "[1]", "[]", "{}", "{", "12", '"a"', "[" * 100_000)))
