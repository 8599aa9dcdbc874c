"""Pictures that an export is compared on."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest
import torch

from distill.data.folders import find_pictures
from distill.deployment.comparison_words import draw_pictures, draw_words, load_words
from students.errors import UserError
from students.pictures import to_tensor


def test_crops_come_from_lmdbs_files_and_folders(learned, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "inner").mkdir(parents=True)
    learned.pictures[0].save(pictures / "b.png")
    learned.pictures[1].save(pictures / "inner" / "a.JPG")
    (pictures / "notes.txt").write_text("no picture")
    assert [path.name for path in find_pictures([pictures]).pictures] == ["b.png", "a.JPG"]
    data = (pictures / "b.png").read_bytes()
    tree = tmp_path / "tree" / "words" / "set"
    tree.mkdir(parents=True)
    with lmdb.open(str(tree), map_size=2**20) as environment, environment.begin(write=True) as records:
        records.put(b"num-samples", b"4")
        for number in (1, 2, 4):
            records.put(b"image-%09d" % number, data if number != 2 else data[:40])
        records.put(b"label-000000001", b"b")
    crops = load_words([tmp_path / "tree"])
    torch.testing.assert_close(to_tensor([word.picture for word in crops]), learned.images[:1].expand(2, -1, -1, -1))
    assert [word.label for word in crops] == ["b", None], "a picture counts without its label too"
    assert len(load_words([pictures, tmp_path / "tree"])) == 4
    assert len(load_words([tmp_path / "tree"], most=1)) == 1
    assert "2 pictures can't be decoded, left out" in caplog.text
    (pictures / "labels.tsv").write_text("b.png\tword\n")
    assert [word.label for word in load_words([pictures])] == ["word", None]


def test_missing_crops_are_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        load_words([tmp_path / "none"])
    with pytest.raises(UserError, match="no pictures, at any depth"):
        load_words([tmp_path])
    with lmdb.open(str(tmp_path / "empty"), map_size=2**16):
        pass
    with pytest.raises(UserError, match="num-samples"):
        load_words([tmp_path])


def test_drawn_words_are_the_same_every_time() -> None:
    first, again = (draw_words("ab1", (32, 128), count=3) for _ in range(2))
    assert first.shape == (6, 3, 32, 128)
    torch.testing.assert_close(first, again)


def test_letters_of_other_alphabets_are_drawn() -> None:
    sizes = {picture.size for picture in draw_pictures("шжяюфы", count=28)}
    assert len(sizes) > 14 + 1, "a font without these letters draws one box for each of them"
