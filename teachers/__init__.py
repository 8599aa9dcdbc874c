"""Teachers: frozen models that guide a student, and readers of every kind by name."""

from __future__ import annotations

from teachers.guidance import Guidance, TeacherShape
from teachers.reading import ReadingTeacher
from teachers.registry import load_reader, load_teacher, register_reader, register_teacher
from teachers.teacher import Teacher

__all__ = [
    "Guidance", "ReadingTeacher", "Teacher", "TeacherShape", "load_reader", "load_teacher", "register_reader",
    "register_teacher",
]  # fmt: skip
