"""LMDBs: the key scheme, processes, and files that are broken."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import shutil
from pathlib import Path

import lmdb
import pytest
from PIL import Image

from distill.data import lmdb_reader
from distill.data.lmdb_reader import LmdbRecords
from distill.data.records import BadRecordError, Records, SubsetRecords
from distill.data.trees import find_sets, open_set, open_sets
from distill.evaluation.benchmarks import locate_benchmarks
from students.errors import UserError


def picture(shade: int = 128) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 10), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, entries: dict[bytes, bytes]) -> Path:
    folder.mkdir(parents=True)
    put(folder, entries)
    return folder


def put(folder: Path, entries: dict[bytes, bytes]) -> None:
    with (
        lmdb.open(str(folder), map_size=2**24, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in entries.items():
            transaction.put(key, value)


def words(folder: Path, labels: list[str]) -> Path:
    entries = {b"num-samples": b"%d" % len(labels)}
    for number, label in enumerate(labels, start=1):
        entries[b"image-%09d" % number] = picture(number)
        entries[b"label-%09d" % number] = label.encode()
    return write(folder, entries)


def third_label(records: LmdbRecords) -> tuple[int, str, str]:
    return len(records), records.label(2), records.image(0)[1:4].decode()


def test_reads_the_fields_key_scheme(tmp_path: Path) -> None:
    records = LmdbRecords(words(tmp_path / "set", ["one", "zwölf", "3"]))
    assert isinstance(records, Records)
    assert (len(records), records.name) == (3, "set")
    assert list(records.labels()) == [(0, "one"), (1, "zwölf"), (2, "3")]
    assert records.label(1) == "zwölf"
    assert records.image(0) == picture(1)
    assert records.columns(0) is None
    assert records.describe(1) == "record 2 of set"
    assert not (tmp_path / "set" / "lock.mdb").exists(), "reading writes nothing"


def test_two_sets_share_one_open_file(tmp_path: Path) -> None:
    folder = words(tmp_path / "set", ["a", "b", "c"])
    first, second = LmdbRecords(folder), LmdbRecords(folder)
    assert first.label(0) + second.label(1) + first.label(2) == "abc"
    del first
    assert second.label(0) == "a"


def test_many_look_ups_open_the_file_anew_but_not_under_a_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def counted(path: Path) -> lmdb.Environment:
        opened.append(path)
        return open_file(path)

    open_file = lmdb_reader._open
    monkeypatch.setattr(lmdb_reader, "_open", counted)
    monkeypatch.setattr(lmdb_reader, "MAX_READS", 10)
    records = LmdbRecords(words(tmp_path / "set", [f"w{number}" for number in range(50)]))
    assert [records.label(number) for number in range(50)] == [f"w{number}" for number in range(50)]
    assert len(opened) == 6
    walk = records.labels()
    assert next(walk) == (0, "w0")
    assert all(records.image(number) == picture(number + 1) for number in range(49, -1, -1))
    assert len(list(walk)) == 49
    assert len(opened) == 6, "what a walk looks at stays mapped"
    records.label(0)
    assert len(opened) == 7


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="nothing tells what is mapped")
def test_what_was_read_does_not_stay_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mapped() -> int:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("RssFile")).split()[1])

    monkeypatch.setattr(lmdb_reader, "MAX_READS", 10)
    content = os.urandom(50_000)
    opened = lmdb.open(str(tmp_path / "set"), map_size=2**27, sync=False, lock=False)
    with opened as environment, environment.begin(write=True) as transaction:
        transaction.put(b"num-samples", b"1000")
        for number in range(1, 1001):
            transaction.put(b"image-%09d" % number, content)
    records = LmdbRecords(tmp_path / "set")
    before = mapped()
    for number in range(1000):
        records.image(number * 7919 % 1000)
    assert mapped() - before < 25_000, "KiB of the 50,000 that were read"


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_goes_into_other_processes(tmp_path: Path, start: str) -> None:
    records = LmdbRecords(words(tmp_path / "set", ["a", "b", "c"]))
    records.label(0)
    with multiprocessing.get_context(start).Pool(1) as pool:
        assert pool.map(third_label, [records, records]) == [(3, "c", "PNG")] * 2
    assert records.label(1) == "b", "the file stays open here"


def test_pickles_without_its_open_file(tmp_path: Path) -> None:
    records = LmdbRecords(words(tmp_path / "set", ["a", "b"]))
    again = pickle.loads(pickle.dumps(records))  # noqa: S301  what the test pickled itself
    assert again.label(1) == "b"
    assert len(pickle.dumps(records)) < 1000


def test_gaps_and_wrong_bytes_are_named(tmp_path: Path) -> None:
    entries = {
        b"num-samples": b"4",
        b"label-000000002": b"two",
        b"label-000000003": b"\xff",
        b"label-000000009": b"nine",
    }
    records = LmdbRecords(write(tmp_path / "set", entries))
    assert list(records.labels()) == [(0, None), (1, "two"), (2, None), (3, None)]
    with pytest.raises(BadRecordError, match="record 1 of set has no label"):
        records.label(0)
    with pytest.raises(BadRecordError, match="record 3 of set is no UTF-8"):
        records.label(2)
    with pytest.raises(BadRecordError, match="record 2 of set has no picture"):
        records.image(1)


@pytest.mark.parametrize(
    ("entries", "message"), [({b"label-000000001": b"a"}, "num-samples"), ({b"num-samples": b"x"}, "num")]
)
def test_an_lmdb_of_something_else_is_refused(tmp_path: Path, entries: dict[bytes, bytes], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LmdbRecords(write(tmp_path / "set", entries))


def test_broken_files_are_refused(tmp_path: Path) -> None:
    folder = words(tmp_path / "whole", ["word"] * 200)
    short = tmp_path / "short"
    shutil.copytree(folder, short)
    os.truncate(short / "data.mdb", 16384)
    with pytest.raises(UserError, match="cut off"):
        LmdbRecords(short)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.mdb").write_bytes(b"x" * 9000)
    with pytest.raises(UserError, match="LMDB"):
        LmdbRecords(tmp_path / "other")
    with pytest.raises(UserError, match="no LMDB"):
        LmdbRecords(tmp_path)


def test_finds_sets_at_any_depth_in_order(tmp_path: Path) -> None:
    for name in ("b/deep/er", "a", "c", ".d.writing-1"):
        words(tmp_path / name, ["x"])
    (tmp_path / "b" / "round").symlink_to(tmp_path)
    assert [str(records.path.relative_to(tmp_path)) for records in open_sets(tmp_path)] == ["a", "b/deep/er", "c"]
    assert [records.name for records in open_sets(tmp_path / "a")] == ["a"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no LMDB"):
        open_sets(tmp_path / "empty")
    with pytest.raises(UserError, match="no such folder"):
        open_sets(tmp_path / "nowhere")


def test_a_set_that_is_reached_by_links_is_found_once_by_its_own_path(tmp_path: Path) -> None:
    words(tmp_path / "sets" / "IC13_2", ["x", "y"])
    words(tmp_path / "away", ["z"])
    (tmp_path / "sets" / "IC13_1.indices.txt").write_text("2\n")
    (tmp_path / "sets" / "A").symlink_to(tmp_path / "sets" / "IC13_2")
    (tmp_path / "sets" / "B").symlink_to(tmp_path / "away")
    (tmp_path / "sets" / "C").symlink_to(tmp_path / "away")
    (tmp_path / "sets" / "D_1.indices.txt").symlink_to("IC13_1.indices.txt")
    (tmp_path / "sets" / "E").mkdir()
    (tmp_path / "sets" / "E" / "data.mdb").symlink_to(tmp_path / "sets" / "IC13_2" / "data.mdb")
    (tmp_path / "sets" / "train").mkdir()
    words(tmp_path / "sets" / "train" / "F", ["f"])
    root = tmp_path / "linked"
    root.symlink_to(tmp_path / "sets")
    for folder in (tmp_path / "sets", root):
        actual = find_sets(folder, lists=True, skip=("train",))
        assert [path.relative_to(folder).as_posix() for path in actual] == ["B", "IC13_1", "IC13_2"]
        assert [path.name for path in find_sets(folder)] == ["B", "IC13_2", "F"]
    assert list(locate_benchmarks(tmp_path / "sets", "all")) == ["B", "IC13_1", "IC13_2"]


def test_records_beyond_num_samples_are_counted(tmp_path: Path) -> None:
    words(tmp_path / "set", ["a", "b", "c", "d", "e"])
    assert LmdbRecords(tmp_path / "set").count_beyond() == 0
    put(tmp_path / "set", {b"num-samples": b"2"})
    assert (len(LmdbRecords(tmp_path / "set")), LmdbRecords(tmp_path / "set").count_beyond()) == (2, 3)
    put(tmp_path / "set", {b"label-000000009": b"label alone", b"label-x": b"no number"})
    assert LmdbRecords(tmp_path / "set").count_beyond() == 4


def test_a_list_cuts_a_set_from_the_larger_one(tmp_path: Path) -> None:
    words(tmp_path / "IC13_5", ["a", "b", "c", "d", "e"])
    words(tmp_path / "IC15_9", ["z"] * 9)
    words(tmp_path / "IC13_2", ["y"] * 2)
    (tmp_path / "IC13_3.indices.txt").write_text("5\n1\n3\n")
    cut = open_set(tmp_path / "IC13_3")
    assert isinstance(cut, SubsetRecords)
    assert (cut.name, list(cut.labels())) == ("IC13_3", [(0, "e"), (1, "a"), (2, "c")])
    assert cut.describe(0) == "record 5 of IC13_5"
    assert open_set(tmp_path / "IC13_3.indices.txt").label(0) == "e"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("IC13_3", "1\n2\n9\n", "record 9"), ("IC13_3", "0\n", "counted from 1"), ("IC13_3", "one\n", "'one'"),
        ("IC13_3", "", "empty"), ("IC13_3", "1\n2\n1\n", "names record 1 twice"),
        ("IC13_3", "1\n2\n01\n", "names record 1 twice"), ("IC13_3", f"{'9' * 5000}\n", "'99999999999999999999'"),
        ("IC15_3", "1\n", "IC15_COUNT"), ("plain", "1\n", "larger set"),
    ],
)  # fmt: skip
def test_a_list_that_fits_nothing_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    words(tmp_path / "IC13_5", ["a", "b", "c", "d", "e"])
    (tmp_path / f"{name}.indices.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        open_set(tmp_path / name)


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    words(tmp_path / "IC13_5", ["a", "b", "c", "d", "e"])
    (tmp_path / "IC13_2.indices.txt").write_text("2\r\n5\r\n", encoding="utf-8-sig")
    assert list(open_set(tmp_path / "IC13_2").labels()) == [(0, "b"), (1, "e")]


def test_real_sets_have_their_counts(shared: Path) -> None:
    counts = {name: len(open_set(path)) for name, path in locate_benchmarks(shared / "data", "all").items()}
    assert counts == {
        "CUTE80": 288, "IC13_1015": 1015, "IC13_857": 857, "IC15_1811": 1811, "IC15_2077": 2077, "IIIT5k": 3000,
        "SVT": 647, "SVTP": 645,
    }  # fmt: skip
    train = {records.path.name: len(records) for records in open_sets(shared / "data" / "train")}
    assert {name: train[name] for name in ("IC15_train", "MLT_latin", "MLT17_en_fr", "MJSynth")} == {
        "IC15_train": 4468, "MLT_latin": 9215, "MLT17_en_fr": 8733, "MJSynth": 1695,
    }  # fmt: skip
