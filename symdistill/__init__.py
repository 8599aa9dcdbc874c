"""Distil large scene-text models into small readers.

This is the public interface in Python. Importing it is cheap; torch is imported when a function needs it.

    import symdistill

    reader = symdistill.load("tiny")
    print(reader.read("word.png").text)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from students.errors import UserError

if TYPE_CHECKING:
    from students.reading import Reader

__all__ = ["UserError", "__version__", "load"]


def load(name: str | Path) -> Reader:
    """Open a reader: a shipped name, a folder, a repository of the Hugging Face hub, or an ONNX file.

    Raises:
        UserError: when there is no such reader, or its files are damaged.
    """
    from teachers.readers import load_reader

    return load_reader(name)


def __getattr__(name: str) -> Any:
    """Look the version up on first use."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from configparser import ConfigParser
    from importlib import metadata

    try:
        return metadata.version("symdistill")
    except metadata.PackageNotFoundError:  # a clone that was never installed
        settings = ConfigParser()
        settings.read(Path(__file__).parent.parent / "setup.cfg")
        return settings.get("metadata", "version", fallback="unknown")
