"""ONNX files: open one in onnxruntime, and look into it without the onnx package.

The file's messages are walked by hand: importing onnx takes longer than reading a word does. No torch is imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from students.errors import UserError
from students.extras import import_extra

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

EXPORT_AGAIN = "give the file of a reader, such as `export --onnx` writes"
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
DIMS, DATA_TYPE, FLOAT_DATA, RAW_DATA, EXTERNAL_DATA, DATA_LOCATION = 1, 2, 4, 9, 13, 14
"""Fields of TensorProto."""
METADATA = 14
"""Field of ModelProto."""
FLOATS = {1: "<f4", 10: "<f2", 11: "<f8"}
"""numpy's type of TensorProto's data types FLOAT, FLOAT16 and DOUBLE."""
WEIGHTS = (*FLOATS, 2, 3)
"""Data types of weights: floating point, UINT8 and INT8."""


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
    # Sums of 8-bit products overflow on processors without VNNI, unless onnxruntime is told to mind.
    options.add_session_config_entry("session.x64quantprecision", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for every failure
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: onnxruntime can't load it ({reason}); export it again") from None


def check_tensors(data: bytes, path: Path) -> None:
    """Check that a file is an ONNX model, in one piece, whose weights are numbers.

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


def read_properties(data: bytes, path: Path) -> dict[str, str]:
    """Read the custom metadata of an ONNX file without loading its graph; raises `UserError` for what is no ONNX."""
    try:
        entries = [dict(split_fields(value)) for field, value in split_fields(memoryview(data))
                   if field == METADATA and not isinstance(value, int)]  # fmt: skip
        return {bytes(entry[1]).decode(): bytes(entry.get(2, b"")).decode() for entry in entries}  # type: ignore[arg-type]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is no ONNX file; {EXPORT_AGAIN}") from None


def count_weights(data: bytes) -> int:
    """Count the weights of a checked ONNX file, those of 8 bits included."""
    total = 0
    for tensor in find_tensors(memoryview(data), "model"):
        shape, kind = 1, 0
        for field, value in split_fields(tensor):
            if field == DATA_TYPE:
                kind = cast("int", value)
            elif field == DIMS:
                shape *= value if isinstance(value, int) else math.prod(read_packed(value))
        total += shape if kind in WEIGHTS else 0
    return total


def read_packed(message: memoryview) -> Iterator[int]:
    """Yield the variable-length numbers of a packed field."""
    position = 0
    while position < len(message):
        number, position = read_varint(message, position)
        yield number
