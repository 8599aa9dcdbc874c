"""One name for all commands; a user's mistake is one line and 2, a bug keeps its traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from distill.__main__ import main
from distill.commands import commands
from distill.errors import CLOSED_PIPE, exit_on_user_error
from students.errors import UserError


def test_every_module_is_a_command_with_one_line_of_help(root: Path) -> None:
    known = commands()
    files = {file.stem for file in (root / "distill" / "commands").glob("*.py")} - {"__init__"}
    assert set(known) == files >= {"export", "read"}
    assert all(known.values())


def test_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    for name, summary in commands().items():
        assert f"  {name.replace('_', '-')} " in printed
        assert summary in printed


def test_no_command_is_help_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: symdistill" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "meant"), [("raed", "'read'"), ("exprot", "'export'"), ("render", "'render-words'")])
def test_an_unknown_command_names_the_nearest(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([typed]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: no command {typed!r}; the nearest is {meant}")


def test_arguments_and_exit_on_user_error_pass_through(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["read", "--student", "tiny", str(tmp_path / "none.png")]) == 2
    assert "none.png" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["read", "--help"])
    assert stop.value.code == 0


def test_module_runs_as_a_program(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "distill", "raed"], cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"]])
def test_output_that_nobody_reads_is_no_mistake(root: Path, arguments: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        [sys.executable, "-m", "distill", *arguments], cwd=root, env=environment, stdout=writing,
        stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    os.close(writing)
    assert done.stderr == b""
    # argparse may swallow the error of a write that isn't buffered, as some versions do, and go on to its exit with 0.
    assert done.returncode in ({0, CLOSED_PIPE} if unbuffered and len(arguments) == 2 else {CLOSED_PIPE})


def test_a_broken_pipe_of_the_commands_own_is_a_bug() -> None:
    @exit_on_user_error
    def buggy(argv: Sequence[str] | None = None) -> int:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        buggy([])


def test_a_users_mistake_is_one_line_and_a_bug_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    @exit_on_user_error
    def mistaken(argv: Sequence[str] | None = None) -> int:
        raise UserError("first\n  second")

    @exit_on_user_error
    def buggy(argv: Sequence[str] | None = None) -> int:
        raise ZeroDivisionError

    assert mistaken() == 2
    assert capsys.readouterr().err == "error: first second\n"
    with pytest.raises(ZeroDivisionError):
        buggy([])
