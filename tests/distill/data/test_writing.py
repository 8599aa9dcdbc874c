"""LmdbWriter: whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from distill.data.lmdb_reader import LmdbRecords
from distill.data.writing import LmdbWriter
from students.errors import UserError


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


LIMITED = """
import resource, sys
from distill.data.writing import LmdbWriter
from students.files import is_full
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    with LmdbWriter(sys.argv[1]) as writer:
        for number in range(300):
            writer.add(bytes(9000), f"word {number}")
except OSError as error:
    print(is_full(error), error.filename)
"""


def test_a_limit_that_stops_the_writing_is_said(tmp_path: Path) -> None:
    """A file size limit stands for a full disk and a quota: LMDB says `Input/output error` of all three."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path / "set")], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == (f"True {tmp_path / 'set'}", 0), done.stderr
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
