"""The tools: three lines each that call a command, from any folder, under any launcher."""

from __future__ import annotations

import ast
import importlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = sorted((ROOT / "tools").glob("*.py"))
COMMANDS = sorted(file for file in (ROOT / "distill" / "commands").glob("*.py") if file.stem != "__init__")


def test_every_command_has_its_tool() -> None:
    assert [tool.stem for tool in TOOLS] == [command.stem for command in COMMANDS] != []


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.stem)
def test_tool_only_calls_its_command(tool: Path) -> None:
    source = tool.read_text(encoding="utf-8")
    assert len([line for line in source.splitlines() if line.strip()]) <= 12
    assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.walk(ast.parse(source)))
    assert f"distill.commands.{tool.stem}" in source


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.stem)
def test_tool_prints_help(tool: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(tool), "--help"])
    monkeypatch.setattr(sys, "path", [str(tool.parent), *sys.path[1:]])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(tool), run_name="__main__")
    assert not stop.value.code
    output = capsys.readouterr().out
    assert "usage:" in output
    assert len(output.splitlines()) > 5, "help that only repeats the usage helps nobody"


def test_tool_that_shares_the_name_of_the_package_finds_the_package(tmp_path: Path) -> None:
    # Python puts tools/ first on the path, where distill.py would shadow the package of that name.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(ROOT / "tools" / "distill.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.stem)
@pytest.mark.parametrize("dashes", [False, True], ids=["underscores", "dashes"])
def test_symdistill_knows_every_command(command: Path, dashes: bool, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module("symdistill.__main__").main
    name = command.stem.replace("_", "-") if dashes else command.stem
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert not stop.value.code
    assert "usage:" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.stem)
def test_a_mistake_in_the_arguments_is_told_in_one_line(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"distill.commands.{command.stem}").main
    assert main(["--no-such-option"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.endswith("--help lists the arguments\n")
    assert output.err.count("\n") == 1


def test_symdistill_refuses_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module("symdistill.__main__").main
    assert main(["evalute"]) == 2
    message = capsys.readouterr().err
    assert "evaluate" in message, "the message names what would work"
