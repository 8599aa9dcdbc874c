"""Files and folders are written atomically."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from students import files
from students.errors import UserError
from students.files import check_file, check_output, put_in_place, remove, replacing, write_file


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_file(path, "old")
    with replacing(path) as beside:
        beside.write_bytes(b"new")
        assert path.read_text() == "old"
        assert beside.name.startswith("."), "what walks through folders passes it over"
    assert path.read_text() == "new"
    write_file(path, "wört")
    assert path.read_bytes() == "wört".encode()
    assert names(tmp_path) == ["report.json"]


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "student"
    for number in (1, 2):
        with replacing(path) as beside:
            (beside / "deep").mkdir(parents=True)
            (beside / "deep" / f"{number}").write_text("x")
    assert names(path / "deep") == ["2"], "nothing of the earlier folder is mixed in"
    assert names(tmp_path) == ["student"]


@pytest.mark.parametrize("folder", [False, True])
def test_an_error_leaves_the_old_content(folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "thing"
    write_file(path, "old")

    def fail() -> None:
        with replacing(path) as beside:
            beside.mkdir() if folder else beside.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["thing"]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    replace = os.replace

    def spy_replace(source: Path, target: Path) -> None:
        done.append(f"-> {target.name}")
        replace(source, target)

    monkeypatch.setattr(files, "_sync", lambda path: done.append(path.name))
    monkeypatch.setattr(files.os, "replace", spy_replace)
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "weights").write_text("x")
    put_in_place(beside, tmp_path / "place")
    assert done == ["beside", "weights", "-> place", tmp_path.name]


def test_links_are_removed_and_not_their_targets(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    write_file(tmp_path / "kept" / "file", "mine")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove(tmp_path / "link")
    remove(tmp_path / "nothing")
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == ["file"]


def test_places_that_are_closed_are_refused_before_there_is_anything_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    (closed / "empty").mkdir(parents=True)
    # Root may write anywhere, whatever the folder's mode.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != closed)
    check_output(closed / "empty", False, "a report", lambda _: False)
    with pytest.raises(UserError, match=r"can't be replaced as a whole; give a folder in it, such as .*empty/new"):
        check_output(closed / "empty", False, "a student", lambda _: False, renamed=True)
    with pytest.raises(UserError, match="closed can't be written to"):
        check_output(closed, False, "a report", lambda _: False)
    check_file(tmp_path / "a.json", "--out")
    for file in (closed / "a.json", tmp_path / "none" / "a.json", tmp_path):
        with pytest.raises(UserError, match="can't be written; give --out a file in a folder that exists"):
            check_file(file, "--out")


def test_a_name_that_is_too_long_is_refused_before_there_is_anything_to_write(tmp_path: Path) -> None:
    for length in (245, 300):
        with pytest.raises(UserError, match="the name is too long; give a shorter one"):
            check_output(tmp_path / ("n" * length), False, "a reader", lambda folder: True)
