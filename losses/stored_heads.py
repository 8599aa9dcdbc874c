"""Guidance heads in a file, to go on with a distillation that was started elsewhere."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from students.errors import UserError

HEADS_FILE = "heads.safetensors"
"""What guidance heads are stored as, by the names of `GuidanceHeads`."""


def save_heads(heads: nn.Module, folder: Path) -> None:
    """Write the weights of `heads` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in heads.state_dict().items()}, folder / HEADS_FILE
    )
    (folder / HEADS_FILE).chmod(0o644)  # safetensors makes files that only their owner can read


def load_heads(heads: nn.Module, folder: str | Path) -> None:
    """Fill `heads` from a folder that `save_heads` wrote to.

    Raises:
        UserError: when there are none, or they belong to another student or teacher.
    """
    file = Path(folder) / HEADS_FILE
    try:
        heads.load_state_dict(load_file(file))
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; give the folder guidance/ of a student that convert wrote") from None
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(" ".join(str(error).splitlines()[:2]).split())
        raise UserError(
            f"{file}: not the heads of this student and teacher ({reason[:200]}); take the student and the CLIP that "
            "lie beside it, or leave the heads out"
        ) from None
