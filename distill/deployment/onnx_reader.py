"""Read words with one exported ONNX file: onnxruntime, numpy and Pillow are all it needs, no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from students.charset import Charset
from students.decoding import DECODERS, LogitsKind, Reading
from students.errors import UserError
from students.language_model import NO_MODEL, load_language_model
from students.onnx_files import EXPORT_AGAIN, check_tensors, open_session, read_file
from students.picture_reader import PictureReader, read_by_width
from students.pictures import pixel_widths

INPUT, OUTPUT = "images", "logits"
"""Names of the graph's input and output."""
FORMAT = "symdistill-student"
"""`format` in the metadata of every exported file, whatever kind of reader it holds."""
LOGITS_OF_0_1: dict[str, LogitsKind] = {"positions": "attention", "columns": "ctc"}
"""Kinds of logits as version 0.1 wrote them under `spelling`, or not at all before CTC, with their names today."""


class OnnxReader(PictureReader):
    """Read words with an ONNX file that `export --onnx` wrote; everything it needs stands in that file.

    Args:
        path: the ONNX file.
        threads: CPU threads of a call; None leaves the choice to onnxruntime.

    Attributes:
        path: the file.
        threads: as given.
        name: what it was called when it was exported.
        charset: its alphabet.
        max_length: longest word in characters.
        parameters_count: number of weights.

    Raises:
        UserError: when the file is missing, no ONNX, not a student's, keeps weights in other files, or has weights
            that are no numbers.
    """

    description = "an ONNX file"

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        path = self.path = Path(path).resolve()
        self.threads = threads
        data = read_file(path)
        check_tensors(data, path)
        self.session = open_session(data, path, threads)
        entries = read_metadata(self.session.get_modelmeta().custom_metadata_map, path)
        self.name: str = entries["name"]
        self.charset = Charset(entries["charset"])
        self.max_length: int = entries["max_length"]
        self.parameters_count: int = entries["params"]
        height, width = entries["image_size"]
        self._image_size: tuple[int, int] = (height, width)
        self.logits_kind: LogitsKind = entries["logits"]
        self._keep_aspect: bool = entries["keep_aspect"]
        self._turn_tall: bool = entries["turn_tall"]
        self.language_model = load_language_model(entries["language_model"], entries["words"])

    def place(self, device: str, threads: int | None) -> OnnxReader:
        """Return the same reader with another number of threads, which a session takes when it is opened."""
        if threads == self.threads:
            return self
        again = OnnxReader(self.path, threads)
        again.language_model = self.language_model
        return again

    def __reduce__(self) -> tuple[type[OnnxReader], tuple[Path, int | None], dict[str, Any]]:
        """Pickle it by its file, which another process opens again: sessions of onnxruntime can't be sent to one."""
        return type(self), (self.path, self.threads), {"_language_model": self.language_model}

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self._image_size

    @property
    def keep_aspect(self) -> bool:
        """See `PictureReader`."""
        return self._keep_aspect

    @property
    def turn_tall(self) -> bool:
        """See `PictureReader`."""
        return self._turn_tall

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map normalised pictures (N, 3, H, W) to logits (N, steps, C + 1)."""
        outputs = self.session.run([OUTPUT], {INPUT: np.ascontiguousarray(images, dtype=np.float32)})
        return cast("np.ndarray", outputs[0])

    def read_arrays(self, images: np.ndarray, allowed: np.ndarray | None = None) -> list[Reading]:
        """Read normalised pictures (N, 3, H, W) float32: one reading each.

        Args:
            images: the pictures.
            allowed: see `PictureReader.read_arrays`.

        Raises:
            UserError: when the file computes NaN instead of probabilities.
        """
        if not self.keep_aspect:
            return self._read(images, allowed)
        widths = pixel_widths(images).tolist()
        return read_by_width(lambda group, columns: self._read(group, allowed, columns), images, widths)

    def _read(
        self, images: np.ndarray, allowed: np.ndarray | None, lengths: Sequence[int] | None = None
    ) -> list[Reading]:
        logits = self.logits(images)
        if np.isnan(logits).any():
            raise UserError(f"{self.name} gives NaN instead of probabilities: its weights are damaged; {EXPORT_AGAIN}")
        return DECODERS[self.logits_kind](self.charset, logits, allowed, lengths, self.language_model)


def read_metadata(stored: Mapping[str, str], path: Path) -> dict[str, Any]:
    """Check and decode the metadata that `export_onnx` stored.

    Raises:
        UserError: when the file is no exported student, or lacks what reading needs.
    """
    if stored.get("format") != FORMAT:
        raise UserError(f"{path} holds no student of this project; {EXPORT_AGAIN}")
    try:
        entries = {key: json.loads(stored[key]) for key in ("charset", "max_length", "image_size", "name", "params")}
        kind = json.loads(stored.get("logits", stored.get("spelling", '"attention"')))
        entries["logits"] = LOGITS_OF_0_1.get(kind, kind)
        entries |= {key: json.loads(stored.get(key, "false")) is True for key in ("keep_aspect", "turn_tall")}
        entries["language_model"] = json.loads(stored.get("language_model", f'"{NO_MODEL}"'))
        entries["words"] = json.loads(stored.get("words", "null"))
        height, width = entries["image_size"]
        strings = all(isinstance(entries[key], str) for key in ("charset", "name", "language_model"))
        strings = strings and isinstance(entries["words"], str | None) and entries["logits"] in DECODERS
        if strings and all(type(n) is int for n in (height, width, entries["max_length"], entries["params"])):
            return entries
    except (KeyError, TypeError, ValueError):
        pass
    raise UserError(f"{path} lacks what a reader needs (alphabet, picture size, decoding); export it again")
