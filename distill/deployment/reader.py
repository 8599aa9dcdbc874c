"""OnnxReader: read words with one exported ONNX file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto
from torch import Tensor

from distill.deployment.graph import INPUT, OUTPUT
from distill.deployment.onnx import FORMAT
from students.charset import DECODERS, Charset, LogitsKind, Reading
from students.errors import UserError

LOGITS_OF_0_1: dict[str, LogitsKind] = {"positions": "attention", "columns": "ctc"}
"""Kinds of logits as version 0.1 wrote them, with their names today."""


class OnnxReader:
    """Read words with an ONNX file that `export_onnx` wrote; everything it needs stands in that file.

    Args:
        path: the ONNX file.
        threads: CPU threads of a call; None leaves the choice to onnxruntime.

    Raises:
        UserError: when the file is missing, no ONNX, not a student's, or points to weights in other files.
    """

    role: Literal["student"] = "student"
    reading: Literal["open"] = "open"

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        data = read_file(Path(path))
        facts = read_facts(data, Path(path))
        self.alphabet = Charset(facts["charset"])
        self.name: str = facts["name"]
        self.params: int = facts["params"]
        self.max_length: int = facts["max_length"]
        self.logits_kind: LogitsKind = facts["logits"]
        height, width = facts["image_size"]
        self.image_size: tuple[int, int] = (height, width)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class of its own for every failure
            raise UserError(
                f"{path}: onnxruntime can't load it ({' '.join(str(error).split())[:200]}); export it again"
            ) from None

    @property
    def charset(self) -> str:
        """The alphabet's characters."""
        return self.alphabet.characters

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Map normalised pictures (N, 3, H, W) to logits (N, steps, C + 1)."""
        found: np.ndarray = self.session.run([OUTPUT], {INPUT: np.ascontiguousarray(images, dtype=np.float32)})[0]
        return found

    def read_batch(self, images: Tensor) -> list[Reading]:
        """Read normalised pictures (N, 3, H, W): one reading each."""
        return DECODERS[self.logits_kind](self.alphabet, self.logits(images.detach().cpu().numpy()))


def read_file(path: Path) -> bytes:
    """Read an ONNX file; raises `UserError` when that fails."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; give an ONNX file that `export --onnx` wrote") from None


def read_facts(data: bytes, path: Path) -> dict[str, Any]:
    """Check that `data` is a student in one piece and give what its metadata says.

    Raises:
        UserError: when it is no ONNX, not a student's, or names other files as the place of its weights.
    """
    again = "give a file that `export --onnx` wrote"
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        if type(error).__name__ != "DecodeError":
            raise
        raise UserError(f"{path} is no ONNX file; {again}") from None
    stored = {entry.key: entry.value for entry in model.metadata_props}
    if stored.get("format") != FORMAT:
        raise UserError(f"{path} holds no student of this project; {again}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in weights(model.graph)):
        raise UserError(f"{path} keeps weights in other files; {again}")
    try:
        facts = {key: json.loads(stored[key]) for key in ("charset", "max_length", "image_size", "name", "params")}
        kind = json.loads(stored.get("logits", stored.get("spelling", '"attention"')))  # 0.1 wrote spelling, or nothing
        facts["logits"] = LOGITS_OF_0_1.get(kind, kind)
        height, width = facts["image_size"]
        whole = all(isinstance(facts[key], str) for key in ("charset", "name")) and facts["logits"] in DECODERS
        if whole and all(isinstance(n, int) for n in (height, width, facts["max_length"], facts["params"])):
            return facts
    except (KeyError, TypeError, ValueError):
        pass
    raise UserError(f"{path} lacks the facts a reader needs (alphabet, picture size, kind of logits); export it again")


def weights(graph: GraphProto) -> Iterator[onnx.TensorProto]:
    """Go through every stored tensor of a graph and of the graphs inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]
            for inner in [attribute.g, *attribute.graphs]:
                if inner.node or inner.initializer:
                    yield from weights(inner)
