"""The run folder: refused when it exists, continued with --resume, replaced with --overwrite; what changed since."""

from __future__ import annotations

from pathlib import Path
from typing import IO

from distill.config import Schema, differences, load_config
from distill.fields import as_yaml
from distill.locks import acquire_lock
from distill.training.checkpoint import CheckpointKeeper
from students.errors import UserError
from students.files import check_output, remove, repair

WRITTEN = (
    "checkpoints", "student", "teacher", "tensorboard", "baseline", "config.yaml", "metrics.jsonl", "report.json",
    "report.md", "report.html", "readings.jsonl", "log.txt", "console.txt",
)  # fmt: skip
"""What a run writes into its folder, beside its lock."""
LOCK = ".lock"
PATIENCE_S = 30.0
"""How long a run waits for an earlier one that is on its way out, such as the baseline of a run that was killed."""


def check_run_folder(out: Path, resume: str | None, overwrite: bool) -> None:
    """Refuse a run folder that would be written over, or a checkpoint that is none; writes and removes nothing.

    Raises:
        UserError: when `out` exists and neither `--resume` nor `--overwrite` was given, or it is not a run's.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give another out=FOLDER")
    if resume is not None and overwrite:
        raise UserError("--resume continues a run and --overwrite replaces it; give one of them")
    if resume is not None:
        CheckpointKeeper(out / "checkpoints").find(resume)
        return
    instead = "continue it with --resume auto, "
    check_output(out, overwrite, "a run", lambda folder: (folder / "config.yaml").is_file(), "out=FOLDER", instead)


def open_run_folder(out: Path, overwrite: bool, resume: str | None) -> IO[bytes]:
    """Create the run folder; with `--overwrite` what an earlier run wrote there is removed first, and nothing else.

    What a run that was killed has left half done is put in order.

    Returns:
        A lock: no other run opens the folder until it is closed or this process ends.

    Raises:
        UserError: when it can't be created, or another run is at work in it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = acquire_lock(out / LOCK, PATIENCE_S)
    except OSError as error:
        raise UserError(f"{out} can't be created ({error.strerror}); give another out=FOLDER") from None
    if lock is None:
        raise UserError(f"another run is at work in {out}; wait for its end, stop it, or give another out=FOLDER")
    for folder in (out, out / "checkpoints"):
        repair(folder)
    if overwrite and resume is None and (out / "config.yaml").is_file():
        for name in WRITTEN:
            remove(out / name)
    return lock


def describe_changes(folder: Path, config: Schema) -> str:
    """Say in a line what `config` has changed since the run in `folder` began, "" when nothing or nobody knows."""
    file = folder / "config.yaml"
    if not file.is_file():
        return ""
    try:
        before = load_config(type(config), file)
    except UserError as error:
        return f"what has changed since then can't be listed: {error}"
    changes = [
        f"{key} {as_yaml(old)} -> {as_yaml(new)}" for key, old, new in differences(before, config) if key != "out"
    ]
    return f"changed since then: {', '.join(changes)}" if changes else ""
