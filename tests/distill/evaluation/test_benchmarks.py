from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import lmdb
import numpy as np
import pytest
from PIL import Image

from distill.data.writing import LmdbWriter
from distill.evaluation.benchmarks import (
    COUNTS,
    SIX,
    averaged,
    check_overlap,
    find_training,
    open_benchmarks,
    recognise,
)
from students.charset import Charset
from students.errors import UserError

MakeSet = Callable[[Path, Sequence[str]], Path]


@pytest.mark.parametrize("charset", ["36", "62", "94"])
def test_the_six_have_their_known_counts(shared: Path, charset: str) -> None:
    benchmarks = open_benchmarks(shared / "data", "six", Charset.load(charset))
    assert {each.name: len(each) for each in benchmarks} == {name: COUNTS[name] for name in SIX}
    assert sum(map(len, benchmarks)) == 7248
    assert [each.name for each in benchmarks] == list(SIX)
    accents = {"IIIT5k": "é\u00b4áü", "SVTP": "é", "CUTE80": "à"}
    assert {each.name: "".join(each.folded) for each in benchmarks if each.note} == accents, "nothing else to note"
    assert not any(each.dropped for each in benchmarks)


def test_all_sets_that_lie_there_are_found(shared: Path, charset: Charset) -> None:
    benchmarks = {each.name: each for each in open_benchmarks(shared / "data", "all", charset)}
    assert list(benchmarks) == [*SIX, "IC13_1015", "IC15_2077"]
    assert len(benchmarks["IC13_1015"]) == 1015
    assert len(benchmarks["IC15_2077"]) == 2077
    assert averaged(list(benchmarks.values())) == list(SIX)
    small, large = benchmarks["IC13_857"], benchmarks["IC13_1015"]
    position = small.positions[-1]
    assert small.records.label(position) == large.records.label(small.records.positions[position])  # type: ignore[attr-defined]


def test_a_count_that_differs_is_said(tmp_path: Path, charset: Charset, make_set: MakeSet) -> None:
    make_set(tmp_path / "test" / "SVT", ["one", "two", "!!!", "x" * 26])
    (svt,) = open_benchmarks(tmp_path, "SVT", charset)
    assert svt.labels == ("one", "two")
    assert svt.note is not None
    assert "2 words scored of 4, the set of the field has 647" in svt.note
    assert "1 labels dropped (empty)" in svt.note
    assert "1 labels dropped (too long)" in svt.note


def test_characters_that_are_folded_are_counted(tmp_path: Path, make_set: MakeSet) -> None:
    make_set(tmp_path / "test" / "cafe", ["café", "cafés", "naïve", "straße", "plain", "it's"])
    (benchmark,) = open_benchmarks(tmp_path, "all", Charset.load("36"))
    assert benchmark.labels == ("cafe", "cafes", "naive", "strae", "plain", "its")
    assert benchmark.folded == {"é": 2, "ï": 1, "ß": 1}
    assert benchmark.note is not None
    assert "é in 2, " in benchmark.note
    (benchmark,) = open_benchmarks(tmp_path, "all", Charset("abcdefghijklmnopqrstuvwxyzéïß"))
    assert benchmark.labels == ("café", "cafés", "naïve", "straße", "plain", "its")
    assert benchmark.note is None, "the alphabet has them all"


def test_sets_are_known_by_their_folders(tmp_path: Path, charset: Charset, make_set: MakeSet) -> None:
    for name in ("IIIT5k_3000", "svt", "COCOv1.4", "mine", "union/curve", "train/never"):
        make_set(tmp_path / name, ["word"])
    names = [each.name for each in open_benchmarks(tmp_path, "all", charset)]
    assert names == ["IIIT5k", "SVT", "COCO-Text", "mine", "union/curve"]
    assert [each.name for each in open_benchmarks(tmp_path, "mine, iiit5k", charset)] == ["mine", "IIIT5k"]
    assert recognise("CUTE") == "CUTE80"


def test_one_set_alone(tmp_path: Path, charset: Charset, make_set: MakeSet) -> None:
    (benchmark,) = open_benchmarks(make_set(tmp_path / "rendered-8", ["One", "Two"]), "six", charset)
    assert (benchmark.name, benchmark.labels) == ("rendered-8", ("one", "two"))


def test_a_limit_takes_words_from_everywhere(tmp_path: Path, charset: Charset, make_set: MakeSet) -> None:
    labels = [f"w{number}" for number in range(10)]
    (benchmark,) = open_benchmarks(make_set(tmp_path / "set", labels), "all", charset, limit=3)
    assert benchmark.labels == ("w0", "w3", "w6")
    assert benchmark.partial
    assert benchmark.vocabulary == tuple(sorted(labels)), "a closed lexicon must not shrink with a quick look"
    assert benchmark.note is not None
    assert "3 words of 10 only" in benchmark.note
    (whole,) = open_benchmarks(tmp_path / "set", "all", charset, limit=10)
    assert not whole.partial


def test_no_word_counts_twice_in_averages(tmp_path: Path, charset: Charset, make_set: MakeSet) -> None:
    make_set(tmp_path / "test" / "own_4", ["a", "b", "c", "d"])
    make_set(tmp_path / "test" / "other", ["e"])
    (tmp_path / "test" / "own_2.indices.txt").write_text("2\n4\n")
    benchmark = open_benchmarks(tmp_path, "all", charset)
    assert {each.name: each.labels for each in benchmark}["own_2"] == ("b", "d")
    assert averaged(benchmark) == ["other", "own_4"]
    assert averaged(open_benchmarks(tmp_path, "own_2,other", charset)) == ["own_2", "other"]
    make_set(tmp_path / "test" / "below" / "mine_3", ["a", "b", "c"])
    (tmp_path / "test" / "below" / "mine_1.indices.txt").write_text("1\n")
    assert averaged(open_benchmarks(tmp_path, "all", charset)) == ["below/mine_3", "other", "own_4"]


def test_a_set_that_a_link_reaches_again_is_scored_once(tmp_path: Path, charset: Charset, make_set: MakeSet) -> None:
    make_set(tmp_path / "test" / "mine", ["one", "two"])
    (tmp_path / "test" / "alias").symlink_to("mine")
    (benchmark,) = open_benchmarks(tmp_path, "all", charset)
    assert (benchmark.name, benchmark.labels) == ("mine", ("one", "two"))


@pytest.mark.parametrize(
    ("sets", "message"), [("six", "has no set IIIT5k"), ("SVTX", "did you mean 'SVT'"), (",", "there are SVT")]
)
def test_a_set_that_is_not_there(tmp_path: Path, charset: Charset, make_set: MakeSet, sets: str, message: str) -> None:
    make_set(tmp_path / "test" / "SVT", ["one"])
    with pytest.raises(UserError, match=message):
        open_benchmarks(tmp_path, sets, charset)


def test_bad_data_is_one_mistake(tmp_path: Path, charset: Charset, make_set: MakeSet) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_benchmarks(tmp_path / "absent", "six", charset)
    with pytest.raises(UserError, match="holds no test set"):
        open_benchmarks(tmp_path, "six", charset)
    with pytest.raises(UserError, match="no label is left"):
        open_benchmarks(make_set(tmp_path / "signs", ["!!", "?"]), "all", charset)


def test_a_broken_picture_is_never_left_out(tmp_path: Path, charset: Charset) -> None:
    with LmdbWriter(tmp_path / "set") as writer:
        writer.add(b"no picture", "word")
    (benchmark,) = open_benchmarks(tmp_path / "set", "all", charset)
    with pytest.raises(UserError, match="record 1 of set can't be read"):
        benchmark.load(0)


def noise(seed: int) -> bytes:
    stored = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 64, 3), np.uint8)
    Image.fromarray(pixels).save(stored, format="PNG")
    return stored.getvalue()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three test words, the second of which was trained on."""
    for folder, seeds in {"test/SVT": (0, 1, 2), "train/mine": (3, 1, 4)}.items():
        with LmdbWriter(tmp_path / "data" / folder) as writer:
            for seed in seeds:
                writer.add(noise(seed), f"word{seed}")
    return tmp_path / "data"


def test_a_test_word_among_training_words_is_named(data: Path, tmp_path: Path, charset: Charset) -> None:
    benchmarks = check_overlap(open_benchmarks(data, "all", charset), data / "train", cache=tmp_path / "cache")
    assert benchmarks.against == str(data / "train")
    (line,) = benchmarks.overlaps
    assert "record 2 of SVT (word1) is record 2 of mine too: equal bytes" in line


def test_training_words_are_found_beside_the_tests(data: Path) -> None:
    assert find_training(data, None) == data / "train"
    assert find_training(data / "test" / "SVT", None) is None
    assert find_training(data, data / "test") == data / "test"
    with pytest.raises(UserError, match="no such folder"):
        find_training(data, data / "absent")
    (data / "train" / "more").mkdir()
    (data / "train" / "more" / "labels.tsv").write_text("a.png\n")
    with pytest.raises(UserError, match=r"labels\.tsv, line 1: needs a file name and a label"):
        find_training(data, None)  # a search that is left out without a word finds nothing


def test_records_beyond_num_samples_are_noted(make_set: MakeSet, tmp_path: Path, charset: Charset) -> None:
    folder = make_set(tmp_path / "signs", ["a", "b", "c"])
    with lmdb.open(str(folder), lock=False) as opened, opened.begin(write=True) as transaction:
        transaction.put(b"num-samples", b"2")
    (benchmark,) = open_benchmarks(folder, "all", charset)
    assert (len(benchmark), benchmark.note) == (2, "signs: 1 labels dropped (stored beyond num-samples)")


def test_held_out_words_are_named_where_there_are_no_test_words(tmp_path: Path, charset: Charset) -> None:
    with pytest.raises(UserError) as alone:
        open_benchmarks(tmp_path / "test", "all", charset)
    assert "held-out" not in str(alone.value)
    (tmp_path / "held-out").mkdir()
    (tmp_path / "held-out" / "labels.tsv").write_text("a.png\tword\n")
    with pytest.raises(UserError, match=r"or held-out \(eval\.test=held-out\), which is there"):
        open_benchmarks(tmp_path / "test", "all", charset)
