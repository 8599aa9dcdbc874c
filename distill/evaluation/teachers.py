"""Teachers in the comparison: one that reads is scored openly, a CLIP by closed lexicon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill.evaluation.lexicon import Embedder, LexiconReader
from distill.evaluation.readers import StudentReader, WordReader, open_reader
from students.charset import Charset
from students.errors import UserError
from teachers.reading import ReadingTeacher
from teachers.registry import is_reader, load_teacher
from teachers.teacher import Teacher


def open_teacher(
    name: str, charset: Charset, lexicon: Sequence[str] | None = None, threads: int | None = None
) -> WordReader:
    """Open a teacher for scoring, by the names that `teacher.name` takes, or an ONNX file.

    Args:
        name: see `teachers.registry.load_teacher`; readers that can't teach are taken too.
        charset: the test alphabet, for a CLIP's lexicon.
        lexicon: words that a CLIP chooses among; None for those of each test set itself.
        threads: CPU threads of an ONNX file.

    Raises:
        UserError: when there is no such teacher, its files are broken, or it can't be scored.
    """
    if is_onnx(name) or is_reader(name):
        return open_reader(name, "teacher", threads)
    return teacher_reader(load_teacher(name), charset, lexicon)


def teacher_reader(teacher: Teacher, charset: Charset, lexicon: Sequence[str] | None = None) -> WordReader:
    """Make a reader for scoring of a loaded teacher; see `open_teacher`.

    Raises:
        UserError: for a teacher that neither reads nor embeds words.
    """
    if isinstance(teacher, ReadingTeacher):
        return StudentReader(teacher.reader, teacher.name, "teacher")
    if isinstance(teacher, Embedder):
        return LexiconReader(teacher, charset, lexicon)
    raise UserError(f"{teacher.name} can neither read nor choose from a lexicon; set eval.teacher=false")


def is_onnx(name: str) -> bool:
    """Tell whether a name is that of an ONNX file."""
    return Path(name).suffix.lower() == ".onnx"
