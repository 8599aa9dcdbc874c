"""Reading what somebody gives: one reader or two, every picture on its own, mistakes as messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.demo.examples import EXAMPLES, draw_example, write_examples
from distill.demo.reading import MAX_PICTURES, Readers, default_names
from students.errors import UserError
from students.pictures import fitted_size, resize
from students.pretrained import shipped


@pytest.fixture(scope="module")
def readers() -> Readers:
    return Readers(["tiny-free", "tiny"])


@pytest.fixture
def sign(tmp_path: Path) -> Path:
    """A picture that says museum."""
    draw_example(EXAMPLES[0]).save(tmp_path / "sign.png")
    return tmp_path / "sign.png"


def test_two_readers_read_the_same_picture(readers: Readers, sign: Path) -> None:
    (entry,) = readers.read([sign], ["tiny-free", "tiny"])
    assert entry.name == "sign.png"
    assert entry.problem == ""
    free, tiny = entry.read
    assert [free.reader, tiny.reader] == ["tiny-free", "tiny"]
    assert free.reading.text == tiny.reading.text == "museum"
    assert free.reading == readers.opened["tiny-free"].model.read(sign)
    assert free.milliseconds > 0
    size = fitted_size(*draw_example(EXAMPLES[0]).size, (32, 320))
    np.testing.assert_array_equal(free.seen, resize(draw_example(EXAMPLES[0]), size))


def test_broken_pictures_are_entries_of_their_own(readers: Readers, sign: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(sign.read_bytes()[:200])
    Image.new("1", (20_000, 10_000)).save(tmp_path / "huge.png")
    (tmp_path / "empty.png").touch()
    files = [*(tmp_path / name for name in ("notes.txt", "cut.png", "huge.png", "empty.png", "gone.png")), sign]
    entries = readers.read(files, ["tiny-free"])
    assert [entry.picture is None for entry in entries] == [True, True, True, True, True, False]
    problems = [entry.problem for entry in entries[:-1]]
    for problem, words in zip(problems, ("no format", "trunc", "200000000 pixels", "empty", "No such"), strict=True):
        assert words in problem
        assert str(tmp_path) not in problem
    assert entries[-1].read[0].reading.text == "museum"


def test_no_more_than_some_pictures_are_read_at_once(readers: Readers, sign: Path) -> None:
    assert len(readers.read([sign] * (MAX_PICTURES + 10), ["tiny-free"])) == MAX_PICTURES


def test_an_allow_list_holds_for_all_readers(readers: Readers, sign: Path) -> None:
    (entry,) = readers.read([sign], ["tiny-free", "tiny"], "0-9")
    assert all(set(read.reading.text) <= set("0123456789") for read in entry.read)
    with pytest.raises(UserError, match=r"tiny-free: the allow-list has '\.'"):
        readers.read([sign], ["tiny-free"], "0-9.")


def test_a_tall_picture_is_seen_as_it_was_turned(readers: Readers, sign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = readers.opened["tiny-free"].model
    monkeypatch.setattr(type(model), "turn_tall", True)
    Image.open(sign).transpose(Image.Transpose.ROTATE_270).save(sign)
    (entry,) = readers.read([sign], ["tiny-free"])
    assert entry.read[0].reading.text == "museum"
    assert entry.read[0].reading.turned == 90
    assert entry.read[0].seen.width > entry.read[0].seen.height


def test_peers_see_pictures_as_they_are(sign: Path) -> None:
    pytest.importorskip("rapidocr", reason="rapidocr isn't installed")
    (entry,) = Readers(["rapidocr"]).read([sign], ["rapidocr"])
    assert entry.read[0].reading.text == "MUSEUM"
    assert entry.picture is not None
    assert entry.read[0].seen.size == entry.picture.size


def test_what_is_no_reader_is_refused(readers: Readers, sign: Path) -> None:
    with pytest.raises(UserError, match="did you mean tiny"):
        Readers(["tinny"])
    with pytest.raises(UserError, match="twice"):
        Readers(["tiny-free", "tiny-free"])
    with pytest.raises(UserError, match="no reader 'other'; there are tiny-free, tiny"):
        readers.read([sign], ["other"])
    assert default_names()[: len(shipped())] == shipped()


def test_examples_are_always_the_same_and_can_be_read(readers: Readers, tmp_path: Path) -> None:
    files = write_examples(tmp_path)
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in write_examples(tmp_path)]
    read = [entry.read[0].reading.text for entry in readers.read(files, ["tiny-free"])]
    words = [example.word.lower() for example in EXAMPLES]
    assert sum(text == word for text, word in zip(read, words, strict=True)) >= len(words) - 2
