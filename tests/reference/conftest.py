"""Converted checkpoints, made once and shared by the tests of a session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from distill.commands.convert import main

if TYPE_CHECKING:
    from tests.reference.cases import Converted

# Before they are imported: their asserts tell what differs then.
pytest.register_assert_rewrite("tests.reference.cases", "tests.reference.clipocr_cases")


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """Convert a checkpoint as a user does."""
    folders: dict[tuple[str, ...], Path] = {}

    def convert(layout: str, checkpoint: Path, *options: str) -> Path:
        command = (layout, str(checkpoint), *options)
        if command not in folders:
            folder = tmp_path_factory.mktemp(checkpoint.stem) / "reader"
            assert main([*command, "--out", str(folder)]) == 0
            folders[command] = folder
        return folders[command]

    return convert
