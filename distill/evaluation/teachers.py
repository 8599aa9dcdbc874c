"""Teachers in the comparison: one that reads is scored openly, a raw CLIP by closed lexicon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill.evaluation.lexicon import Embedder, LexiconReader
from distill.evaluation.readers import StudentReader, WordReader, open_reader
from students.charset import Charset
from students.errors import UserError
from teachers import ReadingTeacher, Teacher, load_clip
from teachers.readers import is_reader


def open_teacher(
    name: str, charset: Charset, lexicon: Sequence[str] | None = None, threads: int | None = None
) -> WordReader:
    """Open a teacher as what it is.

    Args:
        name: of a reader, as for `open_reader`, or of a CLIP, as for `load_clip`.
        charset: the test alphabet, for a CLIP's lexicon.
        lexicon: words that a CLIP chooses among; None for those of each test set itself.
        threads: CPU threads of an ONNX file.

    Raises:
        UserError: when there is no such teacher, or its files are broken.
    """
    if is_onnx(name) or is_reader(name):
        return open_reader(name, "teacher", threads)
    return LexiconReader(load_clip(name), charset, lexicon)


def teacher_reader(teacher: Teacher, charset: Charset, lexicon: Sequence[str] | None = None) -> WordReader:
    """Let a teacher that guides a student take part; see `open_teacher`.

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
