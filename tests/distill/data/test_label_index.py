"""The label index: the label rules in bulk, files made once, checked against the LMDB and shared by processes."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
from collections import Counter
from pathlib import Path

import lmdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data import label_index
from distill.data.datasets import WordDataset
from distill.data.folders import FolderRecords
from distill.data.label_index import INDEX, Positions, Selection, apply_label_rules, read_labels, select_records
from distill.data.lmdb_reader import LmdbRecords
from distill.data.samples import WordOptions
from distill.data.writing import LmdbWriter
from students.charset import Charset
from students.errors import UserError

CHARSET = Charset.load("36")
LABELS = ["Hello", "?!", "x" * 26, "", "wörld 5", " ", "naïve", "a" * 25, "½", "漢字", "tab\there", "\x7f", "z", "no-1"]
KEPT = [0, 4, 6, 7, 8, 10, 12, 13]
DROPPED = {"empty": 5, "too long": 1}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An index for the smallest sets, in chunks of a few labels, and a cache of its own."""
    monkeypatch.setattr(label_index, "MIN_RECORDS", 1)
    monkeypatch.setattr(label_index, "CHUNK", 4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with LmdbWriter(tmp_path / "words") as writer:
        for label in LABELS:
            writer.add(b"picture", label)
    return tmp_path / "words"


def files(folder: Path) -> dict[str, int]:
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def counts(selection: Selection) -> tuple[list[int], Counter[str]]:
    return selection.positions.array.tolist(), selection.dropped


def put(folder: Path, key: bytes, value: bytes | None) -> None:
    with lmdb.open(str(folder), lock=False) as environment, environment.begin(write=True) as transaction:
        transaction.delete(key) if value is None else transaction.put(key, value)


@pytest.mark.parametrize("charset", ["36", "62", "94", "ABC", "äé", "0123", "-", "#a", ".b*", "x y"])
@given(labels=st.lists(st.text(st.characters() | st.sampled_from("aB7-. \té\x1f#*!"), max_size=8) | st.none()))
@settings(max_examples=60, deadline=None)
def test_many_labels_are_judged_as_one_by_one(charset: str, labels: list[str | None]) -> None:
    class Written:
        def labels(self) -> object:
            return enumerate(labels)

    alphabet = Charset.load(charset) if charset in ("36", "62", "94") else Charset(charset)
    reasons = ["no label" if label is None else alphabet.examine(label, 5).reason for label in labels]
    actual = apply_label_rules(read_labels(Written()), alphabet, 5)  # type: ignore[arg-type]
    assert actual.positions.array.tolist() == [position for position, reason in enumerate(reasons) if reason is None]
    assert dict(actual.dropped) == dict(Counter(reason for reason in reasons if reason is not None))


def test_the_index_says_what_the_labels_say(folder: Path) -> None:
    records = LmdbRecords(folder)
    first, again = select_records(records, CHARSET, 25), select_records(LmdbRecords(folder), CHARSET, 25)
    assert (
        counts(first)
        == counts(again)
        == counts(apply_label_rules(read_labels(records), CHARSET, 25))
        == (KEPT, DROPPED)
    )
    assert isinstance(again.positions.array, np.memmap)
    assert again.positions.array.dtype == np.uint32


def test_it_is_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    select_records(LmdbRecords(folder), CHARSET, 25)
    written = files(folder)
    assert sorted(Path(name).name for name in written) == [
        "data.mdb", "ends.npy", "labels.bin", "positions.npy", "state.json", "state.json",
    ]  # fmt: skip
    monkeypatch.setattr(LmdbRecords, "labels", None)
    assert counts(select_records(LmdbRecords(folder), CHARSET, 25))[0] == KEPT
    assert files(folder) == written
    assert counts(select_records(LmdbRecords(folder), CHARSET, 5))[0] == [0, 6, 8, 12, 13], (
        "another length needs no walk"
    )
    assert counts(select_records(LmdbRecords(folder), Charset("z"), 25))[0] == [12], "nor does another alphabet"
    assert set(written) < set(files(folder))


@pytest.mark.parametrize(
    ("key", "value", "kept_now", "dropped"),
    [
        (b"label-000000002", b"now", [0, 1, *KEPT[1:]], {"empty": 4, "too long": 1}),
        (b"label-000000001", None, KEPT[1:], {**DROPPED, "no label": 1}),
        (b"label-000000014", b"caf\xe9", KEPT[:-1], {**DROPPED, "no label": 1}),
        (b"num-samples", b"9", KEPT[:5], {"empty": 3, "too long": 1}),
    ],
)
def test_a_changed_lmdb_gets_a_new_index(
    folder: Path, key: bytes, value: bytes | None, kept_now: list[int], dropped: dict[str, int]
) -> None:
    select_records(LmdbRecords(folder), CHARSET, 25)
    put(folder, key, value)
    for _ in range(2):
        assert counts(select_records(LmdbRecords(folder), CHARSET, 25)) == (kept_now, dropped)


@pytest.mark.parametrize("name", ["positions.npy", "labels.bin", "ends.npy", "state.json"])
def test_a_damaged_index_is_made_again(folder: Path, name: str) -> None:
    select_records(LmdbRecords(folder), CHARSET, 25)
    for file in (folder / INDEX).rglob(name):
        file.write_bytes(file.read_bytes()[:-3])
    assert counts(select_records(LmdbRecords(folder), Charset("z"), 25))[0] == [12]
    assert counts(select_records(LmdbRecords(folder), CHARSET, 25)) == (KEPT, DROPPED)


def test_the_index_of_read_only_data_lies_with_the_user(folder: Path, tmp_path: Path) -> None:
    (folder / INDEX).write_text("nothing can be written here")
    assert counts(select_records(LmdbRecords(folder), CHARSET, 25)) == (KEPT, DROPPED)
    assert len(list((tmp_path / "home" / "symdistill").glob("words-*.index/positions-*/positions.npy"))) == 1
    assert isinstance(select_records(LmdbRecords(folder), CHARSET, 25).positions.array, np.memmap)


def test_without_a_place_labels_are_read(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / INDEX).write_text("nothing can be written here")
    (tmp_path / "home").write_text("nor here")
    with caplog.at_level(logging.WARNING):
        assert counts(select_records(LmdbRecords(folder), CHARSET, 25)) == (KEPT, DROPPED)
    assert "no index of" in caplog.text


def test_records_beyond_num_samples_are_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(folder, b"num-samples", b"10")
    with caplog.at_level(logging.WARNING):
        assert counts(select_records(LmdbRecords(folder), CHARSET, 25))[0] == KEPT[:5]
    assert "4 records beyond num-samples (10) are never read" in caplog.text


def test_few_labels_and_other_sets_need_no_index(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_index, "MIN_RECORDS", len(LABELS) + 1)
    assert counts(select_records(LmdbRecords(folder), CHARSET, 25)) == (KEPT, DROPPED)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "labels.tsv").write_text("a.png\tone\nb.png\t?\n")
    assert counts(select_records(FolderRecords(tmp_path / "folder"), CHARSET, 25)) == ([0], {"empty": 1})
    assert [file.name for file in folder.iterdir()] == ["data.mdb"]


def test_workers_get_paths(folder: Path) -> None:
    words = WordDataset(LmdbRecords(folder), CHARSET)
    words.positions[0]
    pickled = pickle.dumps(words.positions)
    assert len(pickled) < 500
    again = pickle.loads(pickled)  # noqa: S301  pickled here
    assert isinstance(again, Positions)
    assert (len(again), [again[number] for number in range(len(again))]) == (len(KEPT), KEPT)
    assert [words.label(number) for number in range(3)] == ["hello", "world5", "naive"]


def make(folder: Path) -> list[int]:
    return select_records(LmdbRecords(folder), CHARSET, 25).positions.array.tolist()


def test_processes_that_start_together_agree(folder: Path) -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(make, [folder] * 6, chunksize=1) == [KEPT] * 6
    assert sorted(position.name.split("-")[0] for position in (folder / INDEX).iterdir()) == ["labels", "positions"]


def test_missing_labels_are_counted_as_without_an_index(folder: Path) -> None:
    put(folder, b"label-000000001", None)
    with pytest.raises(UserError, match="1 of 14 records without a label that can be read"):
        WordDataset(LmdbRecords(folder), CHARSET, options=WordOptions(max_corrupt=0.05))
    selection = WordDataset(LmdbRecords(folder), CHARSET, options=WordOptions(max_corrupt=0.1)).selection
    assert selection is not None
    assert selection.dropped["no label"] == 1


def test_what_is_replaced_and_what_ctc_can_not_spell_is_counted_with_and_without_an_index(folder: Path) -> None:
    plain = apply_label_rules(read_labels(LmdbRecords(folder)), CHARSET, 25, ctc_columns=30)
    first, again = (select_records(LmdbRecords(folder), CHARSET, 25, ctc_columns=30) for _ in range(2))
    for actual in (plain, first, again):
        assert actual.folded == {" ": 2, "ö": 1, "ï": 1, "½": 1}
        assert (actual.too_long_for_ctc, actual.too_long_for_ctc_examples) == (1, ("a" * 25,))
    assert select_records(LmdbRecords(folder), CHARSET, 25, ctc_columns=49).too_long_for_ctc == 0


def test_letters_and_digits_that_are_lost_are_counted(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "meters") as writer:
        for label in ("B12", "A-345", "B-B6", "only", "7é", "#9X"):
            writer.add(b"picture", label)
    selection = select_records(LmdbRecords(tmp_path / "meters"), Charset("0123456789"), 25)
    assert selection.folded == {"B": 2, "A": 1, "é": 1, "X": 1}, "punctuation is ignored by the protocol"
    assert selection.dropped == {"empty": 1}
