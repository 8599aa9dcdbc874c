"""Teachers: frozen models that guide a student, and readers of every kind by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from teachers.guidance import Guidance, TeacherShape
    from teachers.reading import ReadingTeacher
    from teachers.registry import load_reader, load_teacher, register_reader, register_teacher
    from teachers.teacher import Teacher

__all__ = [
    "Guidance", "ReadingTeacher", "Teacher", "TeacherShape", "load_reader", "load_teacher", "register_reader",
    "register_teacher",
]  # fmt: skip

_MODULES = {
    "Guidance": "guidance", "ReadingTeacher": "reading", "Teacher": "teacher", "TeacherShape": "guidance",
    "load_reader": "registry", "load_teacher": "registry", "register_reader": "registry",
    "register_teacher": "registry",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import on first use: readers of ONNX files are opened without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"teachers.{_MODULES[name]}"), name)
