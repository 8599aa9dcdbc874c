"""Checkpoints: written under another name and renamed when complete, looked up, and old ones removed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from students.errors import UserError
from students.files import put_in_place, remove

if TYPE_CHECKING:  # takes seconds to import, and commands look for checkpoints before they do
    from accelerate import Accelerator

NAME = re.compile(r"step-(\d{8})")
UNREADABLE = (SafetensorError, UnpicklingError, RuntimeError, ValueError, LookupError, OSError, EOFError)
"""What loading a checkpoint raises that is damaged or another run's."""


class CheckpointKeeper:
    """Save and restore a run through Accelerate: weights, optimizer, schedule, average, random states, position.

    What is registered with the accelerator is saved with the rest; a folder only gets its name when it is complete.

    Args:
        folder: the run's checkpoints/.
        keep: how many of the latest stay, at least 1.
    """

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder, self.keep = folder, keep

    def save(self, accelerator: Accelerator, step: int, characters: str, words: str = "") -> Path:
        """Write a checkpoint; called by every process. When that fails the earlier ones stay as they are.

        Args:
            accelerator: of the run.
            step: optimizer steps done.
            characters: the alphabet that the model is trained for.
            words: what it learns from, as `DataModule.summary` says it.
        """
        final = self.folder / f"step-{step:08d}"
        partial = final.with_suffix(".partial")  # the same on every process
        if accelerator.is_main_process:
            for left in self.folder.glob("*.partial"):  # by a run that was killed, or found no room
                remove(left)
            partial.mkdir(parents=True)
        accelerator.wait_for_everyone()
        try:
            accelerator.save_state(str(partial))
        except Exception:
            if accelerator.num_processes == 1:  # others may still be writing to it
                remove(partial)
            raise
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            entries = {"step": step, "characters": characters, "processes": accelerator.num_processes, "words": words}
            stored = json.dumps({"schema": 1, **entries})
            (partial / "complete.json").write_text(stored + "\n", encoding="utf-8")
            put_in_place(partial, final)
            for old in self.all()[: -self.keep]:
                remove(old)
        accelerator.wait_for_everyone()
        return final

    def all(self) -> list[Path]:
        """List the complete checkpoints, earliest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if NAME.fullmatch(path.name) and is_complete(path))

    def after(self, step: int) -> list[Path]:
        """List the complete checkpoints of later steps."""
        return [path for path in self.all() if int(path.name.removeprefix("step-")) > step]

    def set_aside(self, step: int) -> list[Path]:
        """Rename the checkpoints after a step, from which a run goes on another way; returns their new names."""
        aside = []
        for later in self.after(step):
            target = later.with_name(f"{later.name}.set-aside")
            remove(target)
            aside.append(later.rename(target))
        return aside

    def find(self, name: str) -> Path | None:
        """Find the checkpoint for `--resume auto` (the latest, None when there is none yet) or `--resume DIR`.

        Raises:
            UserError: when DIR is no complete checkpoint.
        """
        if name == "auto":
            checkpoints = self.all()
            return checkpoints[-1] if checkpoints else None
        path = Path(name)
        if not is_complete(path):
            raise UserError(
                f"{path} is no checkpoint; give a folder checkpoints/step-NNNNNNNN of a run, or --resume auto"
            )
        return path


def is_complete(path: Path) -> bool:
    """Tell whether `path` is a checkpoint that was written to its end."""
    return (path / "complete.json").is_file() and any(path.glob("*model*"))


def check_alphabet(path: Path, characters: str) -> None:
    """Refuse to continue a checkpoint with another alphabet; those of version 0.1 don't know theirs.

    Raises:
        UserError: naming the characters that differ.
    """
    try:
        stored = json.loads((path / "complete.json").read_text(encoding="utf-8")).get("characters", characters)
    except (ValueError, AttributeError):
        raise UserError(f"{path} is damaged (complete.json can't be read); resume from another checkpoint") from None
    if stored == characters:
        return
    lost = " ".join(character for character in stored if character not in characters)
    new = " ".join(character for character in characters if character not in stored)
    changes = ([f"without {lost}"] if lost else []) + ([f"with {new}"] if new else [])
    reason = ", ".join(changes) or "in another order"
    raise UserError(
        f"{path} was trained for another alphabet (now {reason}); resume with the alphabet it was made with, or start "
        "a new run from its student (student.init, student.remap)"
    )


def describe_differences(path: Path, processes: int, words: str) -> list[str]:
    """List what differs from the run that wrote a checkpoint; checkpoints of version 0.1 don't record it.

    Args:
        path: the checkpoint.
        processes: how many there are now.
        words: what is learned from now, as `DataModule.summary` says it.
    """
    stored = json.loads((path / "complete.json").read_text(encoding="utf-8"))
    lines = []
    if stored.get("processes", processes) != processes:
        before = stored["processes"]
        lines.append(
            f"{processes} processes instead of {before}: each step sees other words, so the result will differ"
        )
    if (before := stored.get("words") or words) != words:
        lines.append(f"the words to learn from have changed: {before} -> {words}")
    return lines


def load_checkpoint(accelerator: Accelerator, path: Path, changes: str = "") -> None:
    """Restore everything that was saved in `path`.

    Args:
        accelerator: has prepared what is restored.
        path: the checkpoint.
        changes: what has changed in the configuration, for the message.

    Raises:
        UserError: when it belongs to another configuration, or is damaged.
    """
    try:
        accelerator.load_state(str(path))
    except UNREADABLE as error:
        reason = "; ".join(filter(None, [changes, " ".join(str(error).split())[:200]]))
        raise UserError(
            f"{path} does not fit this run ({reason}); resume with the configuration it was made with, or from an "
            "earlier checkpoint where this one is damaged"
        ) from None
