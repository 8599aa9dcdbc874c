"""Teachers: frozen models that guide a student. Adding one is a file here that returns a `Guidance`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from students.ctc import CtcReader
from students.errors import UserError
from students.parseq import Parseq
from students.pretrained import locate, name_of, read_stored, shipped
from students.student import Student
from teachers.clip import ClipTeacher, Position
from teachers.clip4str import Clip4Str
from teachers.clip4str_teacher import Clip4StrTeacher
from teachers.guidance import Guidance, TeacherShape
from teachers.reading import ParseqTeacher, ReadingTeacher, StudentTeacher
from teachers.small import FORMAT as SMALL_FORMAT
from teachers.small import SmallTeacher
from teachers.sources import SHIPPED, load_source
from teachers.teacher import Teacher
from teachers.tokens import WordPieceTokens
from teachers.zoo import LoadedClip

__all__ = [
    "KINDS", "TEACHERS", "ClipTeacher", "Guidance", "ReadingTeacher", "Teacher", "TeacherShape", "load_clip",
    "load_teacher", "wrap_small",
]  # fmt: skip

Kind = Literal["auto", "clip", "clip4str", "parseq", "student"]


def words_small() -> ClipTeacher:
    """Load the shipped teacher of words; raises `UserError` while its weights are missing."""
    return wrap_small("words-small", SmallTeacher.load(SHIPPED["words-small"]))


TEACHERS: dict[str, Callable[[], Teacher]] = {"words-small": words_small}
"""Teachers that are known by name, beside the shipped students."""


def load_teacher(
    name: str, weights: str | None = None, position: Position = "crop", image_size: tuple[int, int] = (32, 128),
    kind: Kind = "auto",
) -> Teacher:  # fmt: skip
    """Load a frozen teacher.

    Args:
        name: of a CLIP, see `load_clip`; or of a reader: a shipped student, or a folder with its config.json.
        weights: of a CLIP.
        position: of a CLIP.
        image_size: height and width of the student's pictures.
        kind: what it is; `auto` tells by the name, or by what its folder's config.json says.

    Raises:
        UserError: when there is no such teacher, or it is of another kind.
    """
    if kind == "auto" and weights is None and name in TEACHERS:
        return TEACHERS[name]()
    found = kind_of(name, weights) if kind == "auto" else kind
    if found not in KINDS:
        raise UserError(f"no kind of teacher is called {found!r}; choose auto or one of {', '.join(KINDS)}")
    if found == "clip":
        return load_clip(name, weights, position, image_size)
    if weights is not None:
        raise UserError(f"weights={weights} is for a CLIP; a {found} brings its own, so give its folder as the name")
    return KINDS[found](name)


def kind_of(name: str, weights: str | None = None) -> str:
    """Tell what a teacher is by its name or its folder; `clip` where nothing says otherwise."""
    if weights is not None:
        return "clip"
    folder = locate(name) if name in shipped() else Path(name)
    try:
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "clip"
    return FORMATS.get(str(stored.get("format")), "clip") if isinstance(stored, dict) else "clip"


def load_clip(
    name: str, weights: str | None = None, position: Position = "crop", image_size: tuple[int, int] = (32, 128)
) -> ClipTeacher:
    """Load a frozen CLIP.

    Args:
        name: `words-small`; a folder that `train-teacher` or open_clip wrote; a CLIP weights file; or a ViT of
            open_clip's zoo as `NAME/TAG` (for example `ViT-B-16/openai`), downloaded when it isn't cached.
        weights: a local file (or teacher folder) to read instead; `name` then says what it is: `NAME`,
            `NAME-quickgelu` or `NAME/TAG`. Sizes and activation are read from the file where it tells them. A tag of
            the zoo is taken for `NAME/TAG`.
        position: how a CLIP's trained position grid is fitted to the pictures; no matter for small teachers.
        image_size: height and width of the student's pictures.

    Raises:
        UserError: unknown name, missing or foreign weights, no network, or an activation that can't be told.
    """
    if position not in ("crop", "interpolate"):
        raise UserError(f"position={position!r} is unknown; choose crop or interpolate")
    called, source = load_source(name, weights)
    if isinstance(source, SmallTeacher):
        return wrap_small(called, source)
    return wrap_clip(called, source, position, image_size)


def load_student(name: str) -> StudentTeacher:
    """Load a student as a teacher; raises `UserError` when there is none, or it kept no decoder."""
    if read_stored(locate(name))["format"] == CtcReader.FORMAT:
        raise UserError(f"{name} reads by CTC and kept no decoder to teach with; give a student that reads otherwise")
    return StudentTeacher(name_of(name), Student.from_pretrained(name))


def load_parseq(name: str) -> ParseqTeacher:
    """Load a PARSeq as a teacher."""
    return ParseqTeacher(name_of(name), Parseq.from_pretrained(name))


def load_clip4str(name: str) -> Clip4StrTeacher:
    """Load a CLIP4STR as a teacher."""
    return Clip4StrTeacher(name_of(name), Clip4Str.from_pretrained(name))


KINDS: dict[str, Callable[[str], Teacher]] = {
    "clip": load_clip, "clip4str": load_clip4str, "parseq": load_parseq, "student": load_student,
}  # fmt: skip
"""Every kind of teacher by name, with what loads it."""
FORMATS = {
    Student.FORMAT: "student", CtcReader.FORMAT: "student", Parseq.FORMAT: "parseq", Clip4Str.FORMAT: "clip4str",
    SMALL_FORMAT: "clip",
}  # fmt: skip
"""The kind of each folder, by what its config.json says under `format`."""


def wrap_small(name: str, model: SmallTeacher) -> ClipTeacher:
    """Freeze a small teacher; it normalises pictures itself, so they come as the student sees them."""
    half = (0.5, 0.5, 0.5)
    return ClipTeacher(name, model, model.tokens, half, half, description="small teacher of words, exact GELU")


def wrap_clip(
    name: str, loaded: LoadedClip, position: Position, image_size: tuple[int, int] = (32, 128)
) -> ClipTeacher:
    """Freeze a CLIP of open_clip."""
    tokens = WordPieceTokens(loaded.tokenizer, loaded.clip.context_length)
    description = f"open_clip ViT with {loaded.activation}: {loaded.reason}"
    return ClipTeacher(name, loaded.clip, tokens, loaded.mean, loaded.std, position, image_size, description)
