"""The arrows tools -> symdistill -> distill -> losses -> teachers -> students: imports go to the right only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

LAYERS = ["tools", "symdistill", "distill", "losses", "teachers", "students"]


def imported(file: Path) -> set[str]:
    """The top-level names that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


def test_import_contract_holds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert lint_imports(config_filename="setup.cfg", no_cache=True) == EXIT_STATUS_SUCCESS


@pytest.mark.parametrize("layer", LAYERS)
def test_no_file_imports_from_its_left(root: Path, layer: str) -> None:
    # The contract reads packages, so a script beside them would escape it; this reads files.
    forbidden = {*LAYERS[: LAYERS.index(layer)], "tests", "configs"}
    wrong = {
        str(file.relative_to(root)): names
        for file in (root / layer).rglob("*.py")
        if (names := imported(file) & forbidden)
    }
    assert not wrong
