"""Teachers: frozen models that guide a student. Adding one is a file here that returns a `Guidance`."""

from __future__ import annotations

from collections.abc import Callable

from students.errors import UserError
from teachers.clip import ClipTeacher, Position
from teachers.guidance import Guidance, TeacherShape
from teachers.small import SmallTeacher
from teachers.sources import SHIPPED, load_source
from teachers.tokens import WordPieceTokens
from teachers.zoo import LoadedClip

__all__ = ["TEACHERS", "ClipTeacher", "Guidance", "TeacherShape", "load_teacher", "wrap_small"]


def words_small() -> ClipTeacher:
    """Load the shipped teacher of words; raises `UserError` while its weights are missing."""
    return wrap_small("words-small", SmallTeacher.load(SHIPPED["words-small"]))


TEACHERS: dict[str, Callable[[], ClipTeacher]] = {"words-small": words_small}
"""The shipped teachers by name."""


def load_teacher(
    name: str, weights: str | None = None, position: Position = "crop", image_size: tuple[int, int] = (32, 128)
) -> ClipTeacher:
    """Load a frozen teacher.

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
    if weights is None and name in TEACHERS:
        return TEACHERS[name]()
    called, source = load_source(name, weights)
    if isinstance(source, SmallTeacher):
        return wrap_small(called, source)
    return wrap_clip(called, source, position, image_size)


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
