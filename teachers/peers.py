"""Readers of other programs by name: `rapidocr`, `tesseract`, and ONNX files of other programs.

The module imports no torch.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from students.errors import UserError
from students.extras import import_extra
from teachers.onnx_ctc import OnnxCtcReader
from teachers.onnx_options import ONNX_NAME, parse_options
from teachers.tesseract import TesseractReader

PEERS = ("rapidocr", "tesseract")
"""Names of readers that other packages bring."""
RAPIDOCR_MODEL = "PP-OCRv6_rec_small.onnx"
"""The recogniser that rapidocr 3.10 comes with; of another release the only one is taken."""
Peer = OnnxCtcReader | TesseractReader


def is_peer(name: str) -> bool:
    """Tell whether a name is that of a reader from elsewhere, or of an ONNX file, which may be one."""
    return name.partition(":")[0] in PEERS or ONNX_NAME.fullmatch(name) is not None


def open_peer(name: str, threads: int | None = None) -> Peer:
    """Open a reader from elsewhere.

    Args:
        name: `rapidocr`; `tesseract`, or `tesseract:LANG` such as `tesseract:deu+eng`; or an ONNX file, with options
            behind it where it needs them: `FILE.onnx:preset=onnxtr,dict=FILE.txt`, see `teachers.onnx_options`.
        threads: CPU threads; None leaves the choice to the program.

    Raises:
        UserError: when it isn't installed, or can't be read.
    """
    kind, _, rest = name.partition(":")
    if kind == "tesseract":
        return TesseractReader(rest or "eng")
    if kind == "rapidocr":
        if rest:
            raise UserError(f"{name}: rapidocr takes no options; give the path of the ONNX file with them")
        return OnnxCtcReader(find_rapidocr(), threads=threads, name=kind)
    if (match := ONNX_NAME.fullmatch(name)) is None:
        raise UserError(f"{name!r} is no reader from elsewhere; give {', '.join(PEERS)}, or an ONNX file")
    return OnnxCtcReader(match["path"], parse_options(match["options"] or "", match["path"]), threads)


def find_rapidocr() -> Path:
    """Find the recogniser that the rapidocr package comes with; raises `UserError`."""
    found = importlib.util.find_spec("rapidocr")
    if found is None or found.origin is None:
        import_extra("rapidocr", "the reader rapidocr")
        raise UserError("rapidocr is installed without files; install it again")
    folder = Path(found.origin).parent / "models"
    files = sorted(folder.glob("*_rec_*.onnx"))
    chosen = [file for file in files if file.name == RAPIDOCR_MODEL] or files
    if len(chosen) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise UserError(f"{folder} has no {RAPIDOCR_MODEL} ({names}); give the path of the ONNX file to read with")
    return chosen[0]
