"""Teachers that guide a student in its comparison: one that reads is scored openly, a raw CLIP by closed lexicon."""

from __future__ import annotations

from collections.abc import Sequence

from distill.deployment.readers import ModelReader, WordReader
from distill.evaluation.lexicon import Embedder, LexiconReader
from students.charset import Charset
from students.errors import UserError
from teachers.reading import ReadingTeacher
from teachers.teacher import Teacher


def teacher_reader(teacher: Teacher, charset: Charset, lexicon: Sequence[str] | None = None) -> WordReader:
    """Turn a teacher that guides a student into a reader for the comparison; see `open_reader`.

    Args:
        teacher: reads, or embeds pictures and words.
        charset: the test alphabet, for a CLIP's lexicon.
        lexicon: words that a CLIP chooses among; None for those of each test set itself.

    Raises:
        UserError: for a teacher that neither reads nor embeds words.
    """
    if isinstance(teacher, ReadingTeacher):
        return ModelReader(teacher.reader, teacher.name, "teacher")
    if isinstance(teacher, Embedder):
        return LexiconReader(teacher, charset, lexicon)
    raise UserError(f"{teacher.name} can neither read nor choose from a lexicon; set eval.teacher=false")
