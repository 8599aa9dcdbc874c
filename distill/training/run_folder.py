"""The run folder: refused when it exists, continued with --resume, replaced with --overwrite; what changed since."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from distill.config import Schema, as_dict, differences, load_config
from distill.fields import as_yaml
from distill.locks import acquire_lock
from distill.schema import Config, TeacherConfig
from distill.training.checkpoint import CheckpointKeeper
from students.errors import UserError
from students.files import check_output, remove, repair

WRITTEN = (
    "checkpoints", "student", "teacher", "tensorboard", "baseline", "config.yaml", "metrics.jsonl", "report.json",
    "report.md", "report.html", "readings.jsonl", "log.txt", "console.txt",
)  # fmt: skip
"""Names that a run writes in its folder, other than its lock."""
LOCK = ".lock"
PATIENCE_SECONDS = 30.0
"""How long a run waits for an earlier one that is on its way out, such as the baseline of a run that was killed."""


def check_run_folder(config: Config | TeacherConfig, resume: str | None, overwrite: bool) -> None:
    """Refuse a run folder that would be written over, or a checkpoint that is none; writes and removes nothing.

    Raises:
        UserError: when `out` exists and neither `--resume` nor `--overwrite` was given, it is not a run's, or the run
            that is replaced holds what this one needs.
    """
    out = Path(config.out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give another out=FOLDER")
    if resume is not None and overwrite:
        raise UserError("--resume continues a run and --overwrite replaces it; give one of them")
    if resume is not None:
        checkpoints = CheckpointKeeper(out / "checkpoints")
        checkpoint = checkpoints.find(resume)
        seen = [path for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
        if seen and not (out / "config.yaml").is_file():
            raise UserError(f"{out} holds other things than a run; give another out=FOLDER")
        if is_of_other_kind(out / "config.yaml", config):
            raise UserError(f"{out} holds a run of another command; give another out=FOLDER")
        other = checkpoint is not None and checkpoint.parent.resolve() != checkpoints.folder.resolve()
        if other and (out / "config.yaml").is_file():
            raise UserError(f"{out} holds another run than {checkpoint} is of; give another out=FOLDER")
        return
    instead = "continue it with --resume auto, "
    if overwrite:
        check_needed(config, out)
    check_output(out, overwrite, "a run", lambda folder: (folder / "config.yaml").is_file(), "out=FOLDER", instead)


def is_of_other_kind(file: Path, config: Config | TeacherConfig) -> bool:
    """Tell whether a stored configuration is of a teacher's training where a distillation is meant, or conversely."""
    try:
        stored = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    marks = {"student", "contrastive"}.intersection(stored if isinstance(stored, dict) else ())
    return bool(marks) and ("student" if isinstance(config, Config) else "contrastive") not in marks


def check_needed(config: Config | TeacherConfig, out: Path) -> None:
    """Refuse to replace a run that holds a reader, words or weights which the new one starts from or learns from.

    Raises:
        UserError: naming the key.
    """
    replaced = [(out / name).resolve() for name in WRITTEN]
    roots = [Path(), *([Path(config.data.root)] if config.data.root else [])]
    for key, text in texts_of(as_dict(config)):
        for path in (root / text for root in roots):
            if key != "out" and path.exists() and any(path.resolve().is_relative_to(each) for each in replaced):
                raise UserError(f"{key}={text} lies in the run that --overwrite replaces; give another out=FOLDER")


def texts_of(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts of nested dictionaries and lists, each with its key."""
    if isinstance(value, str) and value:
        yield key, value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from texts_of(each, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from texts_of(each, f"{key}[{number}]")


def open_run_folder(out: Path, overwrite: bool, resume: str | None) -> IO[bytes]:
    """Create the run folder; with `--overwrite` what an earlier run wrote there is removed first, and nothing else.

    What a run that was killed has left half done is put in order.

    Returns:
        A lock: no other run opens the folder until it is closed or this process ends.

    Raises:
        UserError: when it can't be created, what a run writes can't be written, or another run is at work in it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(out / LOCK, PATIENCE_SECONDS)
    except OSError as error:
        raise UserError(f"{out} can't be created ({error.strerror}); give another out=FOLDER") from None
    if lock is None:
        raise UserError(f"another run is at work in {out}; wait for its end, stop it, or give another out=FOLDER")
    for path in (out / name for name in WRITTEN):
        if path.exists() and not os.access(path, os.W_OK):  # of another user's run
            lock.close()
            raise UserError(f"{path} can't be written to; allow it, or give another out=FOLDER")
    for folder in (out, out / "checkpoints"):
        repair(folder)
    if overwrite and resume is None and (out / "config.yaml").is_file():
        for name in WRITTEN:
            remove(out / name)
    return lock


def find_changes(folder: Path, config: Schema) -> dict[str, tuple[Any, Any]] | None:
    """Find what `config` has changed since the run in `folder` began: by key, the value of then and that of now.

    None when the run has no config.yaml that can be read.
    """
    try:
        before = load_config(type(config), folder / "config.yaml")
    except UserError:
        return None
    return {key: (old, new) for key, old, new in differences(before, config) if key != "out"}


def describe_changes(changes: Mapping[str, tuple[Any, Any]]) -> str:
    """Say in a line what has changed."""
    listed = ", ".join(f"{key} {as_yaml(old)} -> {as_yaml(new)}" for key, (old, new) in changes.items())
    return f"changed since then: {listed}"


def validates(key: str, config: Schema) -> bool:
    """Tell whether a key of the configuration says which words are validated on, and how they are read."""
    rendered = key.startswith("data.synthetic.") and config.data.validation is None
    return key in ("data.root", "data.validation", "student.language_model") or rendered
