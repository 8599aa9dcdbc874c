from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from distill.evaluation.benchmarks import open_benchmarks
from distill.evaluation.compare import compare
from distill.evaluation.readings import READINGS, collect_readings, load_readings, write_readings
from students.charset import Charset
from students.errors import UserError

from .conftest import FakeReader


def test_every_word_of_every_set_is_there_with_all_readings(
    tmp_path: Path, charset: Charset, make_set: Callable[[Path, Sequence[str]], Path]
) -> None:
    make_set(tmp_path / "test" / "long", ["One", "two!", "three"])
    make_set(tmp_path / "test" / "short", ["one"])
    readers = [FakeReader("a", {0: "ONE", 1: "tvo"}), FakeReader("b", {2: "three"}, role="peer")]
    words = collect_readings(compare(readers, open_benchmarks(tmp_path, "all", charset), charset))
    assert [(word.set, word.number, word.label) for word in words] == [
        ("long", 0, "one"), ("long", 1, "two"), ("long", 2, "three"), ("short", 0, "one"),
    ]  # fmt: skip
    assert words[1].readings == {"a": ("tvo", 0.5), "b": ("", 0.5)}
    assert [word.is_hit("a") for word in words] == [True, False, False, True]
    assert words[1].record == "record 2 of long"
    assert words[0].size == (20, 8)
    write_readings(tmp_path, words)
    assert load_readings(tmp_path / READINGS) == words
    first = json.loads((tmp_path / READINGS).read_text(encoding="utf-8").splitlines()[0])
    assert first == {
        "set": "long", "number": 0, "record": "record 1 of long", "label": "one", "size": [20, 8],
        "readings": {"a": ["one", 0.5], "b": ["", 0.5]},
    }  # fmt: skip


@pytest.mark.parametrize("text", ["no json\n", "[1]\n", '{"set": "x"}\n', '{"size": 3}\n', "7\n"])
def test_a_file_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / READINGS).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="lines that are no readings"):
        load_readings(tmp_path / READINGS)
    with pytest.raises(UserError, match="No such file"):
        load_readings(tmp_path / "none.jsonl")
