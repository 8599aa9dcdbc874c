"""Load teachers and readers by name, and register new ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from students.ctc import CtcReader
from students.decoding import DECODERS
from students.errors import UserError
from students.parseq import Parseq
from students.pretrained import shipped, typed
from students.reading import Reader
from students.student import Student
from teachers.clip import ClipTeacher, Position
from teachers.clip4str import Clip4Str
from teachers.columns import CtcReaderTeacher
from teachers.names import SHIPPED_CLIPS, Resolved, resolve
from teachers.peer_teacher import PeerTeacher
from teachers.peers import is_peer
from teachers.reading import Clip4StrTeacher, ParseqTeacher, ReadingTeacher, StudentTeacher
from teachers.teacher import Teacher
from teachers.zoo import load_clip

TeacherFactory = TypeVar("TeacherFactory", bound=Callable[..., Teacher])
ReaderClass = TypeVar("ReaderClass", bound=type[Reader])


@dataclass(frozen=True)
class ReaderEntry:
    """A kind of reader, by the `format` of its folders."""

    model: type[Reader]
    teacher: Callable[[str, Any], Teacher] | None
    """Makes a teacher of its name and the loaded reader; None for a reader that can't teach."""
    kind: str
    """Its name in `teacher.kind`."""


READERS: dict[str, ReaderEntry] = {
    Student.FORMAT: ReaderEntry(Student, StudentTeacher, "student"),
    CtcReader.FORMAT: ReaderEntry(CtcReader, CtcReaderTeacher, "student"),
    Parseq.FORMAT: ReaderEntry(Parseq, ParseqTeacher, "parseq"),
    Clip4Str.FORMAT: ReaderEntry(Clip4Str, Clip4StrTeacher, "clip4str"),
}
"""Readers by the `format` in their folder's config.json; see `register_reader`."""
PEER = "peer"
"""Value of `teacher.kind` for readers of other programs."""
TEACHERS: dict[str, Callable[..., Teacher]] = {}
"""Teachers that users registered, by name; see `register_teacher`."""


def register_teacher(name: str) -> Callable[[TeacherFactory], TeacherFactory]:
    """Register a function or class that makes a `Teacher` under a name, for `teacher.name` and `evaluate --teacher`.

    It is called without arguments, or with those of `weights` (the value of `teacher.weights`) and `image_size`
    (height and width of the student's pictures) that its signature names. Registering a name again replaces it.

    Raises:
        UserError: for the name of a model that comes with the package.
    """
    if not isinstance(name, str):
        raise UserError('a teacher is registered with a name; write @register_teacher("name") above it')
    if name in (*SHIPPED_CLIPS, *shipped()):
        raise UserError(f"a teacher can't be registered as {name!r}, which comes with the package; take another name")

    def register(factory: TeacherFactory) -> TeacherFactory:
        TEACHERS[name] = factory
        return factory

    return register


def register_reader(
    format_name: str, teacher: Callable[[str, Any], Teacher] | None = None
) -> Callable[[ReaderClass], ReaderClass]:
    """Register a `Reader` class under the `format` of its folders' config.json, which becomes its `FORMAT`.

    Args:
        format_name: any name that no other kind of reader has.
        teacher: makes a teacher of a name and a loaded reader; None for a reader that only reads.

    Raises:
        UserError: for the format of a reader that comes with the package.
    """
    if not isinstance(format_name, str):
        raise UserError('a reader is registered with a format; write @register_reader("format") above it')
    if format_name in BUILT_IN_READERS:
        raise UserError(f"{format_name!r} is the format of {READERS[format_name].model.__name__}; register another one")

    def register(model: ReaderClass) -> ReaderClass:
        if model.LOGITS not in DECODERS:
            raise UserError(f"{model.__name__}.LOGITS is {model.LOGITS!r}; give {' or '.join(map(repr, DECODERS))}")
        model.FORMAT = format_name
        READERS[format_name] = ReaderEntry(model, teacher, format_name)
        return model

    return register


BUILT_IN_READERS = frozenset(READERS)


def load_reader(name: str | Path) -> Reader:
    """Load a reader by the name of a shipped student, its folder, or its hub repository, in eval mode.

    Raises:
        UserError: when there is none, its files are broken, or the name is that of a CLIP, which only chooses.
    """
    if isinstance(name, str) and name in TEACHERS:
        teacher = load_teacher(name)
        if isinstance(teacher, ReadingTeacher):
            return teacher.reader
        raise UserError(f"teacher {name} does not read; give it as a teacher, or a reader in its place")
    resolved = resolve(name)
    if resolved.is_clip:
        raise UserError(
            f"{name} is a CLIP, which chooses from a lexicon but does not read; give it as a teacher "
            f"(evaluate --teacher), or a reader such as {', '.join(shipped())}"
        )
    return _load_reader(resolved)


def load_model(name: str) -> Reader | Teacher:
    """Load a reader, or the teacher where a name is that of a CLIP or of a registered teacher.

    Raises:
        UserError: when there is no such thing, or its files are broken.
    """
    if name in TEACHERS or (resolved := resolve(name)).is_clip:
        return load_teacher(name)
    return _load_reader(resolved)


def load_teacher(
    name: str | Path, weights: str | None = None, position: Position = "crop", image_size: tuple[int, int] = (32, 128),
    kind: str = "auto",
) -> Teacher:  # fmt: skip
    """Load a frozen teacher.

    Args:
        name: a registered name, a reader of another program (`teachers.peers.open_peer`), or see
            `teachers.names.resolve`.
        weights: of a CLIP, see there.
        position: how a CLIP's trained position grid is fitted to the pictures; no matter for small teachers.
        image_size: height and width of the student's pictures.
        kind: the kind that it has to be of: `clip`, `student`, `parseq`, `clip4str`, `peer`, or `auto` for any.

    Raises:
        UserError: when there is no such teacher, it is of another kind, can't teach, or its weights can't be read.
    """
    if not isinstance(name, str | Path):
        raise UserError(f"a {type(name).__name__} is no name of a teacher; give a name or a path")
    name = typed(name)
    kinds = ("auto", "clip", *dict.fromkeys(entry.kind for entry in READERS.values()), PEER)
    if kind not in kinds:
        raise UserError(f"no kind of teacher is called {kind!r}; choose one of {', '.join(kinds)}")
    if position not in ("crop", "interpolate"):
        raise UserError(f"position={position!r} is unknown; choose crop or interpolate")
    if name in TEACHERS:
        return _make_registered(name, weights, image_size)
    if is_peer(name):
        if weights is not None or kind not in ("auto", PEER):
            raise UserError(f"{name} is a reader of another program; leave teacher.weights and teacher.kind out")
        return PeerTeacher.from_peer(name)
    resolved = resolve(name, weights)
    entry = None if resolved.is_clip else _entry(resolved)
    actual_kind = "clip" if entry is None else entry.kind
    if kind not in ("auto", actual_kind):
        raise UserError(f"{name} is of kind {actual_kind}, not {kind}; leave teacher.kind at auto")
    if entry is None:
        return ClipTeacher.from_model(resolved.name, load_clip(resolved), position, image_size)
    if entry.teacher is None:
        raise UserError(
            f"{name} is a {resolved.format}, which is registered as a reader only; give it a teacher in register_reader"
        )
    return entry.teacher(resolved.name, _load_reader(resolved)).freeze()


def _entry(resolved: Resolved) -> ReaderEntry:
    if resolved.format not in READERS:
        known = ", ".join(READERS)
        raise UserError(
            f"{resolved.path / 'config.json'} says {resolved.format!r} as its format, which is no reader's; "
            f"give {known}, or register it in a plugin"
        )
    return READERS[resolved.format]


def _load_reader(resolved: Resolved) -> Reader:
    return _entry(resolved).model.from_folder(resolved.path, resolved.stored or {})


def _make_registered(name: str, weights: str | None, image_size: tuple[int, int]) -> Teacher:
    factory, given = TEACHERS[name], {"weights": weights, "image_size": image_size}
    accepted = inspect.signature(factory).parameters
    if weights is not None and "weights" not in accepted:
        raise UserError(f"teacher {name} takes no weights; leave teacher.weights out")
    teacher = factory(**{key: value for key, value in given.items() if key in accepted})
    if not isinstance(teacher, Teacher):
        raise UserError(
            f"what is registered as teacher {name} made a {type(teacher).__name__}; return a teachers.Teacher"
        )
    return teacher.freeze()
