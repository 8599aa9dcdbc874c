"""Students: the models that learn to read, their alphabets, and what they share with other readers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from students.errors import UserError

if TYPE_CHECKING:
    from students.charset import Charset
    from students.ctc import CtcReader
    from students.decoding import Reading
    from students.parseq import Parseq, ParseqConfig
    from students.student import Student, StudentConfig

__all__ = ["Charset", "CtcReader", "Parseq", "ParseqConfig", "Reading", "Student", "StudentConfig", "UserError"]

_MODULES = {
    "Charset": "charset", "CtcReader": "ctc", "Parseq": "parseq", "ParseqConfig": "parseq", "Reading": "decoding",
    "Student": "student", "StudentConfig": "student",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on first use: torch and timm take seconds, for which `--help` and a misspelt key need not wait."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"students.{_MODULES[name]}"), name)
