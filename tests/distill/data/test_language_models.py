"""Language models by what a user names, and the shipped list from the lists that it is made of."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest
from PIL import Image

from distill.data.language_models import open_language_model, write_shipped
from students.charset import CHARSETS, Charset
from students.errors import UserError
from students.language_model import SHIPPED


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    folder = tmp_path / "plates" / "train"
    folder.mkdir(parents=True)
    rows = []
    for number, label in enumerate(["AB 12", "XY 34", "taxi", "TAXI", "..."]):
        Image.new("RGB", (20, 10)).save(folder / f"{number}.png")
        rows.append(f"{number}.png\t{label}\n")
    (folder / "labels.tsv").write_text("".join(rows), encoding="utf-8")
    return folder


def test_labels_and_files_are_counted_together(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("taxi\t3\nbus\n", encoding="utf-8")
    model = open_language_model("european+plates+more.txt", lambda part: tmp_path / part)
    assert model is not None
    assert model.name == "european+own"
    assert dict(model.lists[1].counts) == {"ab12": 1, "xy34": 1, "taxi": 5, "bus": 1}
    assert model.prior("ZZ99") > model.prior("Z9Z9")


def test_labels_go_through_the_rules_that_the_student_learns_by(tmp_path: Path) -> None:
    for number, label in enumerate(("Straße", "Café", "1,99 €")):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{number}.png")
        with (tmp_path / "labels.tsv").open("a", encoding="utf-8") as file:
            file.write(f"{number}.png\t{label}\n")
    ascii_only = CHARSETS["36"]
    for characters, words in ((ascii_only, {"strae", "cafe", "199"}), (ascii_only + "ß", {"strasse", "cafe", "199"})):
        model = open_language_model(tmp_path, charset=Charset(characters))
        assert model is not None
        assert set(model.lists[0].counts) == words


def test_a_path_may_have_a_plus_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a+b").mkdir()
    (tmp_path / "a+b" / "words.txt").write_text("taxi\t3\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for given in (tmp_path / "a+b" / "words.txt", Path("a+b/words.txt"), "a+b/words.txt"):
        model = open_language_model(given)
        assert model is not None
        assert dict(model.lists[0].counts) == {"taxi": 3}


def test_no_language_model() -> None:
    assert open_language_model("none") is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("europaen", "europaen: can't be read as a language model .*; give a text file .* european"),
        ("european+", "'european.' has an empty name in it"),
        ("empty", "empty: no label to make a language model of"),
    ],
)
def test_what_is_none_is_refused(given: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "empty" / "0.png")
    (tmp_path / "empty" / "labels.tsv").write_text("0.png\t...\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        open_language_model(given, lambda part: tmp_path / part)


def test_the_shipped_list_is_what_its_command_writes(tmp_path: Path) -> None:
    pytest.importorskip("wordfreq", reason="the shipped list is made from wordfreq's, of the extra render")
    write_shipped(tmp_path / "list.xz")
    assert lzma.decompress((tmp_path / "list.xz").read_bytes()) == lzma.decompress(SHIPPED["european"].read_bytes())
