"""The run folder: refused when it exists, taken up again with --resume, replaced with --overwrite."""

from __future__ import annotations

import shutil
from pathlib import Path

from students.errors import UserError


def check_run_folder(out: Path, resume: str | None, overwrite: bool) -> None:
    """Refuse a run folder that would be written over; writes and removes nothing.

    Raises:
        UserError: when `out` exists and neither `--resume` nor `--overwrite` was given, or it is not a run's.
    """
    if not out.exists() or resume is not None:
        return
    if not out.is_dir():
        raise UserError(f"{out} is a file; give another out=FOLDER")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise UserError(
            f"{out} exists; continue it with --resume auto, replace it with --overwrite, or give another out=FOLDER"
        )
    if not (out / "config.yaml").is_file():
        raise UserError(f"{out} exists and is no run folder (no config.yaml in it); give another out=FOLDER")


def open_run_folder(out: Path, overwrite: bool, resume: str | None) -> None:
    """Make the run folder; with `--overwrite` the earlier run in it is removed first."""
    if overwrite and resume is None and (out / "config.yaml").is_file():
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
