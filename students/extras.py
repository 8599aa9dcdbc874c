"""Optional packages: which extra of `pip install symdistill` brings each, and what is said when it is missing."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from students.errors import UserError

EXTRAS = {
    "wordfreq": "render", "fontTools": "render", "onnx": "onnx", "onnxscript": "onnx", "onnxruntime": "onnx",
    "rapidocr": "peers", "gradio": "demo",
}  # fmt: skip
"""Packages that `pip install symdistill` alone does not bring, and the extra that does."""


def import_extra(package: str, purpose: str) -> Any:
    """Import a package that one of the extras installs.

    Args:
        package: one of `EXTRAS`.
        purpose: what it is needed for, to open the message: "rendering words".

    Raises:
        UserError: when it is not installed; the message says which extra to install.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # it is installed, and lacks something itself
        raise _missing(package, purpose) from None


def check_extra(extra: str, purpose: str) -> None:
    """Check that all packages of an extra are installed, without importing them.

    Raises:
        UserError: see `import_extra`.
    """
    for package in (package for package, name in EXTRAS.items() if name == extra):
        if importlib.util.find_spec(package) is None:
            raise _missing(package, purpose)


def _missing(package: str, purpose: str) -> UserError:
    return UserError(f'{purpose} needs {package}; pip install "symdistill[{EXTRAS[package]}]"')
