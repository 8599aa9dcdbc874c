"""Read words with one exported ONNX file: onnxruntime, numpy and Pillow are all it needs, no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from distill.errors import import_extra
from students.charset import Charset
from students.decoding import DECODERS, LogitsKind, Reading
from students.errors import UserError
from students.picture_reader import PictureReader

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUT, OUTPUT = "images", "logits"
"""Names of the graph's input and output."""
FORMAT = "symdistill-student"
"""`format` in the metadata of every exported file, whatever kind of reader it holds."""
LOGITS_OF_0_1: dict[str, LogitsKind] = {"positions": "attention", "columns": "ctc"}
"""Kinds of logits as version 0.1 wrote them under `spelling`, or not at all before CTC, with their names today."""
EXPORT_AGAIN = "give a file that `export --onnx` wrote"
MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
"""The messages of onnx.proto that hold tensors somewhere: kind of the inner message by field number."""
DATA_TYPE, FLOAT_DATA, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 2, 4, 9, 13, 14
"""Fields of TensorProto."""
FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}
"""numpy's type of TensorProto's data types FLOAT, FLOAT16 and DOUBLE."""


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

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        path = self.path = Path(path)
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

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self._image_size

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
        logits = self.logits(images)
        if np.isnan(logits).any():
            raise UserError(f"{self.name} gives NaN instead of probabilities: its weights are damaged; {EXPORT_AGAIN}")
        return DECODERS[self.logits_kind](self.charset, logits, allowed)


def read_file(path: Path) -> bytes:
    """Read a file; raises `UserError` when that fails."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; {EXPORT_AGAIN}") from None


def open_session(data: bytes, path: Path, threads: int | None) -> InferenceSession:
    """Load a graph into onnxruntime, from memory so that no path inside it is followed; raises `UserError`."""
    onnxruntime = import_extra("onnxruntime", "reading an ONNX file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for every failure
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: onnxruntime can't load it ({reason}); export it again") from None


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
        height, width = entries["image_size"]
        strings = all(isinstance(entries[key], str) for key in ("charset", "name")) and entries["logits"] in DECODERS
        if strings and all(type(n) is int for n in (height, width, entries["max_length"], entries["params"])):
            return entries
    except (KeyError, TypeError, ValueError):
        pass
    raise UserError(f"{path} lacks what a reader needs (alphabet, picture size, decoding); export it again")


def check_tensors(data: bytes, path: Path) -> None:
    """Check that a file is an ONNX model, in one piece, whose weights are numbers.

    The file's messages are walked without the onnx package, which takes longer to import than reading a word does.

    Raises:
        UserError: naming what is wrong.
    """
    try:
        for tensor in find_tensors(memoryview(data), "model"):
            values = dict(split_fields(tensor))
            if EXTERNAL_DATA in values or values.get(DATA_LOCATION) == 1:
                raise UserError(f"{path} keeps weights in other files; {EXPORT_AGAIN}")
            content = values.get(RAW_DATA, values.get(FLOAT_DATA, b""))
            kind = FLOATS.get(cast("int", values.get(DATA_TYPE, 0)))
            if kind and not isinstance(content, int) and not are_numbers(np.frombuffer(content, kind)):
                raise UserError(f"{path} has weights that are NaN or infinite; export a student of an earlier step")
    except (ValueError, RecursionError):  # a hostile file may nest messages without end
        raise UserError(f"{path} is no ONNX file; {EXPORT_AGAIN}") from None


def are_numbers(values: np.ndarray) -> bool:
    """Tell whether weights are finite; a mask of nothing but zeros and infinities is."""
    finite = np.isfinite(values)
    return bool(finite.all() or not (np.isnan(values).any() or values[finite].any()))


def find_tensors(message: memoryview, kind: str) -> Iterator[memoryview]:
    """Yield every TensorProto in a message of `MESSAGES`; raises `ValueError` for what is no such message."""
    inner = MESSAGES[kind]
    for field, value in split_fields(message):
        if field in inner:
            if isinstance(value, int):
                raise ValueError(f"field {field} of a {kind} is a number")
            if inner[field] == "tensor":
                yield value
            else:
                yield from find_tensors(value, inner[field])


def split_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a protobuf message; raises `ValueError` when it is none."""
    position = 0
    while position < len(message):
        key, position = read_varint(message, position)
        wire = key & 7
        if wire == 0:
            number, position = read_varint(message, position)
            yield key >> 3, number
            continue
        if wire == 2:
            size, position = read_varint(message, position)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + size > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[position : position + size]
        position += size


def read_varint(message: memoryview, position: int) -> tuple[int, int]:
    """Read a variable-length number: its value and the position behind it; raises `ValueError`."""
    value = 0
    for index, byte in enumerate(message[position : position + 10]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position + index + 1
    raise ValueError("no number")
