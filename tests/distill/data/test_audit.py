"""Reports on sets, and the overlap check."""

from __future__ import annotations

import io
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image, ImageFilter

from distill.data.audit import examine, sample_items
from distill.data.lmdb_reader import LmdbRecords
from distill.data.overlap import difference_hash, find_overlaps
from distill.data.trees import open_sets
from distill.data.writing import LmdbWriter
from students.charset import Charset


def scene(seed: int, size: tuple[int, int] = (120, 40)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 20, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    return smooth.filter(ImageFilter.GaussianBlur(1))


def encoded(image: Image.Image, kind: str = "PNG", quality: int = 60) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"quality": quality} if kind == "JPEG" else {}))
    return file.getvalue()


def write(folder: Path, words: list[tuple[bytes, str]]) -> Path:
    with LmdbWriter(folder) as writer:
        for image, label in words:
            writer.add(image, label)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    good = encoded(scene(0))
    words = [
        (good, "Hello"),
        (good, "it's"),
        (good, "!?"),
        (good, "你好"),
        (good, "x" * 26),
        (good[:80], "cut"),
        (b"", "none"),
    ]
    return write(tmp_path / "messy", words)


def test_a_report_counts(messy: Path) -> None:
    report = examine(LmdbRecords(messy), Charset.load("36"))
    assert (report.records, report.usable, report.corrupt) == (7, 2, 2)
    assert report.dropped == {"empty": 2, "too long": 1}
    assert report.examples["empty"] == ["!?", "你好"]
    assert report.removed == {"'": 1, "!": 1, "?": 1, "你": 1, "好": 1}
    assert (report.widths, report.heights) == ([120] * 5, [40] * 5)
    assert "record 6 of messy" in report.corrupt_records[0]
    assert "record 7 of messy has no picture" in report.corrupt_records[1]


def test_labels_that_a_spreadsheet_has_changed_are_named(tmp_path: Path) -> None:
    good = encoded(scene(0))
    labels = ["1.2E+05", "1,2E+05", "#NAME?", "#N/A", "#1", "12E4", "E+05", "name"]
    report = examine(LmdbRecords(write(tmp_path / "words", [(good, label) for label in labels])), Charset.load("95"))
    assert report.reformatted == labels[:4]


def test_the_sheet_shows_what_there_is(messy: Path) -> None:
    records = LmdbRecords(messy)
    items = sample_items([records, records], 100)
    assert [item.lines[0][0] for item in items[:7]] == ["Hello", "it's", "!?", "你好", "x" * 26, "cut", "none"]
    assert len(items) == 14
    assert items[0].image.std() > 10 > items[5].image.std() == items[6].image.std() == 0, "damaged ones are grey"
    spread = sample_items([records, records], 4)
    assert [item.lines[0][0] for item in spread] == ["Hello", "你好", "Hello", "你好"]


def test_the_overlap_check_finds_equal_and_nearly_equal_pictures(tmp_path: Path) -> None:
    scenes = [scene(number) for number in range(12)]
    test = write(tmp_path / "test" / "SET", [(encoded(image), f"Word{n}") for n, image in enumerate(scenes)])
    again = [
        (encoded(scenes[1]), "word1"),
        (encoded(scenes[3], "BMP"), "other"),
        (encoded(scenes[5], "JPEG"), "WORD5!"),
        (encoded(scenes[7].resize((60, 20), Image.Resampling.BICUBIC), "JPEG", 90), "word7"),
        (encoded(scenes[9], "JPEG", 90), "mislabelled"),
        (encoded(scene(100)), "word11"),
        (b"not a picture", "word10"),
    ]
    write(tmp_path / "train" / "deep" / "A", [(encoded(scene(200)), "word0"), *again[:4]])
    write(tmp_path / "train" / "B", again[4:])
    overlaps = find_overlaps(tmp_path / "train", tmp_path / "test")
    assert [(overlap.test, overlap.train, overlap.kind) for overlap in overlaps] == [
        ("record 2 of SET", "record 2 of A", "equal bytes"),
        ("record 4 of SET", "record 3 of A", "equal pixels"),
        ("record 6 of SET", "record 4 of A", "nearly equal"),
        ("record 8 of SET", "record 5 of A", "nearly equal"),
        ("record 10 of SET", "record 1 of B", "nearly equal"),
    ]
    assert all(overlap.correlation > 0.97 for overlap in overlaps)
    assert find_overlaps(open_sets(tmp_path / "train"), [LmdbRecords(test)]) == overlaps, "fingerprints that were kept"
    assert find_overlaps(tmp_path / "train" / "B", tmp_path / "train" / "deep") == []


def test_flat_pictures_are_no_leaks(tmp_path: Path) -> None:
    for name, shade in (("train", 10), ("test", 200)):
        write(tmp_path / name, [(encoded(Image.new("RGB", (50, 20), (shade,) * 3)), "a")])
    assert find_overlaps(tmp_path / "train", tmp_path / "test") == []


def test_the_hash_of_a_ramp() -> None:
    ramp = np.tile(np.arange(0, 255, 2, dtype=np.uint8), (32, 1))
    assert difference_hash(Image.fromarray(ramp)).tolist() == [255] * 16
    assert difference_hash(Image.fromarray(ramp[:, ::-1].copy())).tolist() == [0] * 16


@pytest.mark.slow
def test_the_real_training_words_hold_no_test_words(shared: Path) -> None:
    assert find_overlaps(shared / "data" / "train", shared / "data" / "test") == []


def test_each_record_is_usable_dropped_or_corrupt(tmp_path: Path) -> None:
    good = encoded(scene(0))
    folder = write(tmp_path / "set", [(good, "Caf\u00e9"), (good, "###"), (b"", "###"), (good, "\u00a7"), (good, "x")])
    report = examine(LmdbRecords(folder), Charset.load("94"))
    assert (report.usable, report.dropped, report.corrupt) == (2, {"illegible": 1, "empty": 1}, 1)
    assert (report.folded, report.removed) == ({"\u00e9": 1}, {"\u00a7": 1})
    assert examine(LmdbRecords(folder), Charset.load("94"), keep_illegible=True).usable == 3
    assert examine(LmdbRecords(folder), Charset("caf\u00e9x")).folded == {}


def test_labels_in_quotation_marks_are_named(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "set", [(encoded(scene(number)), label) for number, label in enumerate(['"1,99"', "Taj"])]
    )
    assert examine(LmdbRecords(folder), Charset.load("94")).quoted == ['"1,99"']


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        (b"confidence-000000002", b"abc", "the confidence of record 2 of set is no number from 0 to 1"),
        (b"confidence-000000002", b"7", "the confidence of record 2 of set is no number from 0 to 1"),
        (b"distribution-000000002", b"abc", "record 2 of set has distributions that its set doesn't describe"),
    ],
)
def test_damage_beside_the_picture_is_found(key: bytes, value: bytes, problem: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", [(encoded(scene(number)), "word") for number in range(3)])
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as transaction:
        transaction.put(key, value)
        transaction.put(b"columns-000000001", b"abc")
    report = examine(LmdbRecords(folder), Charset.load("36"))
    assert (report.usable, report.corrupt, report.beside, report.with_columns) == (3, 0, [problem], 0)


def test_distributions_that_can_not_be_read_are_found_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", [(encoded(scene(number)), "word") for number in range(3)])
    with lmdb.open(str(folder)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"distributions", b"{}")
        transaction.put(b"distribution-000000001", b"abc")
    report = examine(LmdbRecords(folder), Charset.load("36"))
    assert report.usable == 3
    assert [("of another version" in line) for line in report.beside] == [True]


def test_words_that_ctc_can_not_spell_are_counted(tmp_path: Path) -> None:
    words = ["harbour", "00000000000000000001", "1111111111111111", "11111111111111112"]
    report = examine(
        LmdbRecords(write(tmp_path / "set", [(encoded(scene(0)), word) for word in words])), Charset.load("36")
    )
    # 20 characters and 18 blanks, 16 and 15, 17 and 15
    assert (report.too_long_for_ctc, report.too_long_for_ctc_examples) == (1, ["00000000000000000001"])
