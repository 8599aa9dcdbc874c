"""LmdbWriter: whole or not at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import lmdb
import pytest

from distill.data.lmdb_reader import LmdbRecords
from distill.data.writing import LmdbWriter
from students.errors import UserError
from students.files import is_full


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "new" / "set") as writer:
        for number in range(2500):
            writer.add(b"%d" % number * 9000, f"wört {number}", bytes([number % 128]) * 32)
        assert not (tmp_path / "new" / "set").exists(), "nothing under the name before the end"
    records = LmdbRecords(tmp_path / "new" / "set")
    assert len(records) == 2500
    for position in (0, 999, 1000, 2499):
        assert records.image(position) == b"%d" % position * 9000
        assert records.label(position) == f"wört {position}"
        assert records.columns(position) == bytes([position % 128]) * 32
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["set"]
    assert [file.name for file in (tmp_path / "new" / "set").iterdir()] == ["data.mdb"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> None:
        with LmdbWriter(tmp_path / "set") as writer:
            writer.add(b"x", "y")
            raise KeyError

    with pytest.raises(KeyError):
        stop()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.data.writing.shutil.disk_usage", lambda path: SimpleNamespace(free=4096))

    class Full:
        def __init__(self, *arguments: object, **options: object) -> None: ...
        def begin(self, **options: object) -> None:
            raise lmdb.Error("mdb_txn_commit: Input/output error")

        def close(self) -> None: ...

    monkeypatch.setattr("distill.data.writing.lmdb.open", Full)
    with pytest.raises(OSError, match="No space left on device") as raised, LmdbWriter(tmp_path / "set") as writer:
        writer.add(b"x", "y")
    assert is_full(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    with LmdbWriter(tmp_path / "set") as writer:
        writer.add(b"old", "old")
    with pytest.raises(UserError, match="exists"):
        LmdbWriter(tmp_path / "set")
    with LmdbWriter(tmp_path / "set", overwrite=True) as writer:
        writer.add(b"new", "new")
    assert LmdbRecords(tmp_path / "set").label(0) == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["set"]
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "mine", tmp_path / "set"):
        (folder / "thesis.txt").write_text("years of work")
        with pytest.raises(UserError, match="holds other things than an LMDB; it is not replaced"):
            LmdbWriter(folder, overwrite=True)
        assert (folder / "thesis.txt").exists()
