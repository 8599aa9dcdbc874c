"""Building a distillation from its configuration: student, teachers, task."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from distill.schema import Config
from distill.training.distillation import DistillationTask
from distill.training.sections import StudentSection, TeacherSection
from losses.heads import load_heads
from students.charset import Charset
from students.ctc import CtcReader, Learner, learner, new_learner
from students.encoders import timm_model
from students.errors import UserError
from students.growing import grow
from students.pretrained import locate, read_stored
from students.reading import Reader
from students.remap import remap
from students.student import SIZES, Student, StudentConfig, guided_size
from teachers import load_teacher
from teachers.teacher import Teacher, untrain

Log = Callable[[str], None]
"""Takes a line for the user."""
AnyReader = TypeVar("AnyReader", bound=Reader)
SIZE_KEYS = ("encoder", "stem", "stem_blocks", "width", "depth", "decoder_depth", "dropout")
"""Keys of `student` that change a size."""
MAX_WIDTH = 320
"""Width of the widest picture of students that keep the aspect: ten times the height."""


def build_student(section: StudentSection, seed: int, log: Log = lambda _: None) -> Learner:
    """Build a student from nothing, or load the one to start from.

    Args:
        section: what it is.
        seed: of weights that aren't loaded.
        log: gets a line about what `student.remap` changed in a loaded one.

    Raises:
        UserError: for a name, alphabet or depth that does not serve.
    """
    charset = Charset.load(section.charset)
    changed = {name: getattr(section, name) for name in SIZE_KEYS if getattr(section, name) is not None}
    if section.init is not None:
        return start_from(section, section.init, charset, changed, seed, log).train()
    if section.remap:
        raise UserError("student.remap changes the charset of a student to start from; set student.init, or leave it")
    if section.max_width is not None and not section.keep_aspect:
        raise UserError("student.max_width is of pictures that keep their aspect; set student.keep_aspect, or leave it")
    config = resized(SIZES[section.size](charset, section.max_length), changed)
    config = dataclasses.replace(
        config, decoding=section.decoding or config.decoding, refine_iters=section.refine_iters or 0,
        keep_aspect=bool(section.keep_aspect), turn_tall=bool(section.turn_tall),
        image_size=(32, section.max_width or MAX_WIDTH) if section.keep_aspect else config.image_size,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # the same start on every process, and for student and baseline
        return new_learner(config, section.decoder)


def start_from(
    section: StudentSection, init: str, charset: Charset, changed: dict[str, Any], seed: int, log: Log
) -> Learner:
    """Load the student to start from, to learn to read as configured.

    Args:
        section: as for `build_student`.
        init: shipped name or folder.
        charset: the alphabet that it has, unless `remap` gives it another.
        changed: sizes that it doesn't keep.
        seed: of weights that it lacks.
        log: gets a line about what was taken from it where sizes or alphabet change.
    """
    alphabet, reads_columns = (
        None if section.remap else charset,
        read_stored(locate(init))["format"] == CtcReader.FORMAT,
    )
    reader: Learner = (
        CtcReader.from_pretrained(init, alphabet) if reads_columns else Student.from_pretrained(init, alphabet)
    )
    if section.keep_aspect is not None and section.keep_aspect != reader.keep_aspect:
        raise UserError(
            f"student.keep_aspect={str(section.keep_aspect).lower()}: {init} learned otherwise; leave it out, or start "
            "from nothing"
        )
    if not section.remap and section.max_length not in (reader.max_length, StudentSection.max_length):
        raise UserError(
            f"student.max_length={section.max_length}: {init} reads words of up to {reader.max_length}; set "
            "student.remap=true, or leave it out"
        )
    if section.size != StudentSection.size:
        log(f"student.size={section.size} has no effect: {init} keeps its own sizes, but for those set by themselves")
    if section.turn_tall is not None:
        reader.config = dataclasses.replace(reader.config, turn_tall=section.turn_tall)
    if section.max_width is not None:
        if not reader.keep_aspect:
            raise UserError(f"student.max_width: pictures of {init} have one size; leave it out")
        reader.config = dataclasses.replace(reader.config, image_size=(reader.image_size[0], section.max_width))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = learner(reader, section.decoding, section.refine_iters, section.decoder)
        if changed:
            student, growth = grow(student, resized(student.config, changed))
            log(f"{init} with {', '.join(f'{key} {value}' for key, value in changed.items())}: {growth.describe()}")
    if section.remap:
        student = remap_reader(student, init, section.charset, section.max_length, seed, log)
    if reader.language_model is not None and student.language_model is None:
        log(f"the language model of {init} is left out: it is for decoding ctc, not {student.config.decoding}")
    return student


def remap_reader(reader: AnyReader, folder: str, charset: str, max_length: int, seed: int, log: Log) -> AnyReader:
    """Return a trained reader with another alphabet and longest word, row by row.

    Args:
        reader: left as it is.
        folder: shipped name or folder that it comes from.
        charset: the new alphabet, as configured.
        max_length: the new longest word.
        seed: of rows that are new, the same on every process.
        log: gets a line about the rows that are new.

    Raises:
        UserError: when there is no such alphabet.
    """
    alphabet = Charset.load(charset)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        remapped, report = remap(reader, alphabet, max_length)
    log(f"{folder} for {len(alphabet.characters)} characters: {report.describe()}")
    return remapped


def check_init_settings(reader: Reader, section: Any, key: str, remap: bool, log: Log) -> None:
    """Check the settings of a section against a loaded teacher, which keeps its own.

    Args:
        reader: the teacher that training starts from.
        section: of its kind; values equal to the default are ignored.
        key: the section's name.
        remap: alphabet and longest word are going to be changed.
        log: gets a line about sizes that are asked for in vain.

    Raises:
        UserError: when another alphabet or longest word is asked for without `remap`.
    """
    kept = []
    for each in dataclasses.fields(section):
        name, asked = each.name, getattr(section, each.name)
        # Keys that only build a new reader, or that only training reads, are not in a reader's configuration.
        own: Any = None if name in ("size", "clip", "weights") else getattr(reader.config, name, asked)
        wanted = Charset.load(asked).characters if name.endswith("charset") else asked
        if asked is None or wanted == own or name in ("image_size", "patch"):  # with rules of their own
            continue
        if name in ("charset", "max_length"):
            has = f"{len(own)} characters" if name == "charset" else f"words of up to {own}"
            if not remap and asked == each.default:  # which may have been asked for, or not
                log(f"the teacher of init keeps its {has}; for {key}.{name}={asked} set remap=true")
            elif not remap:
                raise UserError(f"{key}.{name}={asked}: the teacher of init has {has}; set remap=true, or leave it out")
        elif asked != each.default:
            kept.append(f"{key}.{name}={asked}")
    if kept:
        log(f"without effect, since the teacher of init keeps what it has: {', '.join(kept)}")


def resized(config: StudentConfig, changed: dict[str, Any]) -> StudentConfig:
    """Change a student's sizes, and adapt the number of heads and the column head to them.

    Raises:
        UserError: for sizes that can't be had.
    """
    encoder, width = changed.get("encoder", config.encoder), changed.get("width", config.width)
    heads: dict[str, Any] = {"heads": config.heads, "decoder_heads": config.decoder_heads}
    if encoder not in ("vit", "conv"):
        if {"width", "depth"} & set(changed):
            raise UserError(
                f"student.width and student.depth are those of {encoder}; leave them out, or take encoder vit"
            )
        width = int(timm_model(encoder, config.image_size).num_features)  # type: ignore[arg-type]
    for key in {"stem", "stem_blocks"} & set(changed):
        if encoder != "conv":
            raise UserError(f"student.{key} is of encoder conv, {encoder} has none; leave it out")
        changed = {**changed, key: tuple(changed[key])}
    channels = config.width // config.heads
    if encoder == config.encoder == "conv" and width % channels == 0:  # heads that can be taken over
        heads["heads"] = width // channels
    for name in heads:
        if width % heads[name]:  # the most heads of at least 32 channels
            counts = (12, 8, 6, 4, 3, 2)
            heads[name] = next((count for count in counts if width % count == 0 and width // count >= 32), 1)
    return dataclasses.replace(config, **changed, **heads, column_head=config.column_head and encoder == "conv")


def teacher_sections(config: Config) -> list[TeacherSection]:
    """List the teachers that a configuration asks for; none for a baseline."""
    return [section for section in config.teachers or [config.teacher] if section.name is not None]


def build_teachers(config: Config, image_size: tuple[int, int]) -> list[Teacher]:
    """Load the teachers of students with pictures of `image_size`; none for a baseline.

    Raises:
        UserError: when there is no such teacher, or it can't cache what it is asked to.
    """
    if any(section.name is None for section in config.teachers):
        raise UserError("an entry of teachers has no name; give it one, or leave the entry out")
    teachers = []
    for section in teacher_sections(config):
        teacher = load_teacher(section.name or "", section.weights, section.position, image_size, section.kind)
        if section.control == "untrained":
            untrain(teacher, config.seed)
        teacher.cache_features(section.text_cache_mb * 2**20, section.image_cache_mb * 2**20, section.image_cache_half)
        teachers.append(teacher)
    return teachers


def check_lengths(student: Learner, teachers: Sequence[Teacher]) -> None:
    """Refuse teachers that don't take labels as long as the student's longest word; raises `UserError`."""
    for teacher in teachers:
        if teacher.longest_label is not None and student.max_length > teacher.longest_label:
            raise UserError(
                f"student.max_length={student.max_length}: teacher {teacher.name} takes labels of up to "
                f"{teacher.longest_label} characters; set student.max_length={teacher.longest_label}, or take one "
                "that reads, which guides the beginning of longer words"
            )


def build_task(config: Config, log: Log = lambda _: None) -> DistillationTask:
    """Build student, teachers, heads and losses; `log` as for `build_student`.

    Raises:
        UserError: for a student, a teacher or heads that can't be had, or that don't go together.
    """
    if config.teachers and config.teacher.name is not None:
        log(f"teacher.name={config.teacher.name} has no effect beside teachers, which take its place")
    student, sections = build_student(config.student, config.seed, log), teacher_sections(config)
    teachers = build_teachers(config, guided_size(student.config))
    check_lengths(student, teachers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + 1)
        task = DistillationTask(
            student, teachers, config.guidance, config.aux, config.seed, sections, config.losses,
            stored=any(source.labels == "distributions" and source.ratio > 0 for source in config.data.train),
        )  # fmt: skip
    for branch, section in zip(task.branches, sections, strict=True):
        if section.heads is not None:
            load_heads(branch.heads, section.heads)
    return task
