"""Write the folder of a reader: config.json, model.safetensors, README.md and, when asked for, student.onnx."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from distill.deployment.card import Card, fill_card
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.parity import Parity, check_parity, draw_words
from distill.errors import check_extra
from students.files import check_output, replacing
from students.pretrained import check_finite
from students.reading import Reader
from teachers.registry import READERS, load_reader

ONNX_FILE = "student.onnx"
PARTS = ("guidance",)
"""Folders that may be part of a student's: what a converted one needs to be distilled on. Export leaves them out."""


class ParityError(Exception):
    """ONNX and PyTorch read differently."""

    def __init__(self, parity: Parity) -> None:
        super().__init__(str(parity))
        self.parity = parity


@dataclass(frozen=True)
class Exported:
    """The folder that was written."""

    folder: Path
    files: dict[str, int]
    """Bytes of each file."""
    parity: Parity | None
    """How ONNX and PyTorch compare; None without ONNX."""


def save_folder(
    student: Reader,
    folder: str | Path,
    card: Card,
    *,
    onnx: bool = False,
    images: Tensor | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    overwrite: bool = False,
    parts: Mapping[str, Callable[[Path], None]] | None = None,
) -> Exported:
    """Write a student's folder, checked before it gets its name.

    The student is loaded back from what was written, and the ONNX file is exported from that and compared with it, so
    that what is checked is what is handed out.

    Args:
        student: the student; neither its device nor its mode is changed.
        folder: where to write; must not exist unless `overwrite`, and then hold a student.
        card: what its README.md says beside the facts.
        onnx: write student.onnx too.
        images: normalised pictures (N, 3, H, W) to compare on; drawn words when None.
        dtype: how weights are stored.
        overwrite: replace the student that is there.
        parts: further folders in it, of `PARTS`, and what writes each.

    Raises:
        UserError: when `folder` exists and may not be replaced, weights are NaN or infinite, or there is no ONNX of
            such a reader.
        ParityError: when ONNX and PyTorch differ; nothing is left behind then.
    """
    folder = Path(folder)
    check_folder(folder, overwrite)
    check_finite(student.state_dict(), card.name)
    if onnx:
        check_extra("onnx", "exporting to ONNX")
        from distill.deployment.onnx_export import check_exportable

        check_exportable(student)
    with replacing(folder) as beside:
        student.save_pretrained(beside, dtype)
        (beside / "README.md").write_text(card.write(student, onnx), encoding="utf-8")
        parity = export_checked(beside, card.name, images) if onnx else None
        for name, write in (parts or {}).items():
            write(beside / name)
        for file in filter(Path.is_file, beside.rglob("*")):
            # safetensors lets nobody else read what it writes; a folder is made to be handed on.
            file.chmod((beside / "README.md").stat().st_mode)
    files = {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    return Exported(folder, files, parity)


def export(
    reader: str | Path | Reader,
    folder: str | Path,
    *,
    onnx: bool = False,
    name: str | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    overwrite: bool = False,
) -> Path:
    """Write the folder of a reader: config.json, model.safetensors, its card, and student.onnx when asked for.

    Args:
        reader: a reader, or its name as for `symdistill.load`; not an ONNX file.
        folder: where to write.
        onnx: write an ONNX file, and compare what it reads with PyTorch.
        name: what the card calls it.
        dtype: how weights are stored.
        overwrite: replace a reader in `folder`.

    Returns:
        The folder.

    Raises:
        UserError: for a folder that may not be replaced, or a reader that cannot be exported.
        ParityError: when ONNX and PyTorch differ; nothing is left behind then.
    """
    model = load_reader(reader) if isinstance(reader, str | Path) else reader
    card = Card(name or type(model).__name__.lower()) if model.source is None else fill_card(model.source, name)
    return save_folder(model, folder, card, onnx=onnx, dtype=dtype, overwrite=overwrite).folder


def check_folder(folder: Path, overwrite: bool) -> None:
    """Check that a student's folder may be written: it is new, or holds a student to be replaced.

    Raises:
        UserError: naming what is in the way.
    """
    check_output(folder, overwrite, "a student", holds_student)


def holds_student(folder: Path) -> bool:
    """Tell whether `folder` is a student's and holds nothing else."""
    own = {"config.json", "model.safetensors", "README.md", ONNX_FILE, *PARTS}
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") in READERS and {p.name for p in folder.iterdir()} <= own


def export_checked(folder: Path, name: str, images: Tensor | None) -> Parity:
    """Export student.onnx from the student in `folder` and compare the two; raises `ParityError` on a difference."""
    from distill.deployment.onnx_export import export_onnx

    student = load_reader(folder)
    export_onnx(student, folder / ONNX_FILE, name)
    if images is None:
        images = draw_words(student.charset.characters, student.image_size, keep_aspect=student.keep_aspect)
    parity = check_parity(student, OnnxReader(folder / ONNX_FILE), images)
    if not parity.agrees:
        raise ParityError(parity)
    return parity
