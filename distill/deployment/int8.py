"""Store the weights of exported files in 8 bits, and measure what that changes and saves.

Matrix products with constant weights are computed in int8: weights have a scale per channel, and activations one that
is found as the graph runs. Weights of convolutions are stored in 8 bits alone and computed in float, since quantised
activations cost small convolutional stems far more words.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import GraphProto, ModelProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from PIL import Image

from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.parity import Int8Error, Word
from distill.deployment.programs import PROGRAMS
from distill.deployment.snippets import FILES, TargetName, int8_file
from distill.deployment.targets import TARGETS, form_of
from students.files import write_file
from students.pictures import to_array
from students.reading import Reader

LARGEST = 127
"""Of a symmetric 8-bit weight."""
FEWEST = 512
"""Weights of a convolution that is worth it."""


def quantize(model: ModelProto) -> ModelProto:
    """Return a graph with 8-bit weights in its matrix products and convolutions, and everything else as it was."""
    properties = {entry.key: entry.value for entry in model.metadata_props}
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it recommends a step that changes nothing here
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "int8.onnx"
            quantize_dynamic(
                model, file, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )  # fmt: skip
            smaller = onnx.load(file)
    finally:
        logger.setLevel(level)
    store_convolutions(smaller.graph)
    helper.set_model_props(smaller, properties)
    return smaller


def store_convolutions(graph: GraphProto) -> None:
    """Store the weights (O, I, h, w) of convolutions in 8 bits, a scale for each output channel."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    added, stored = [], set()
    for node in graph.node:
        name = node.input[1] if node.op_type == "Conv" else ""
        if name not in weights or np.prod(weights[name].dims) < FEWEST:
            continue
        if name not in stored:
            values = numpy_helper.to_array(weights[name])
            scales = np.abs(values).reshape(len(values), -1).max(axis=1) / LARGEST
            scales[scales == 0] = 1
            small = np.rint(values / scales.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
            graph.initializer.remove(weights[name])
            graph.initializer.append(numpy_helper.from_array(small, f"{name}/int8"))
            graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), f"{name}/scale"))
            parts = [f"{name}/int8", f"{name}/scale"]
            added.append(helper.make_node("DequantizeLinear", parts, [f"{name}/float"], axis=0))
            stored.add(name)
        node.input[1] = f"{name}/float"
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


@dataclass(frozen=True)
class Int8Check:
    """What 8-bit weights change and save in one file."""

    file: str
    words: int
    changed: int
    """Words that are read otherwise than by the file of 32 bits."""
    labelled: int
    """Words whose label is known and counts."""
    hits: tuple[int, int]
    """Of these, words that the files of 32 and of 8 bits read right."""
    milliseconds: tuple[float, float]
    """Median time of one picture on one thread, 32 and 8 bits."""
    sizes: tuple[int, int]
    """Bytes of the files of 32 and of 8 bits."""
    by: str
    """What read the words: the program where it is installed, or onnxruntime."""

    @property
    def percent(self) -> float:
        """Words that change, in percent."""
        return 100 * self.changed / self.words

    def __str__(self) -> str:
        right = [f"{100 * hits / max(self.labelled, 1):.2f}" for hits in self.hits]
        accuracy = f"word accuracy {right[0]} -> {right[1]}%, " if self.labelled else ""
        return (
            f"{self.file} ({self.by}): {self.changed} of {self.words} words change ({self.percent:.2f}%), {accuracy}"
            f"{self.milliseconds[0]:.2f} -> {self.milliseconds[1]:.2f} ms a word on one thread, "
            f"{self.sizes[0] / 1e6:.2f} -> {self.sizes[1] / 1e6:.2f} MB"
        )


def check_int8(reader: Reader, target: TargetName, files: tuple[Path, Path], words: Sequence[Word]) -> Int8Check:
    """Compare the files of 32 and of 8 bits, one picture at a time on one thread.

    Args:
        reader: the reader in PyTorch.
        target: the program both were exported for, or `onnx`.
        files: that of 32 bits and that of 8.
        words: pictures, and labels where they are known.
    """
    readers = [single_reader(reader, target, file) for file in files]
    texts: list[list[str]] = [[], []]
    times: list[list[float]] = [[], []]
    for word in words:
        for read, read_texts, taken in zip(readers, texts, times, strict=True):
            text, seconds = read(word.picture)
            read_texts.append(text)
            taken.append(seconds)
    by = "onnxruntime"
    if target != "onnx" and (version := PROGRAMS[target].version()) is not None:
        # A program may read in batches, whose pictures share the scales of their activations.
        by, pictures = f"{TARGETS[target].title} {version}", [word.picture for word in words]
        texts = [PROGRAMS[target].read(file, reader.charset, form_of(reader), pictures) for file in files]
    labels = [None if word.label is None else reader.charset.clean(word.label, reader.max_length) for word in words]
    hits = [sum(label == text for label, text in zip(labels, read, strict=True) if label is not None) for read in texts]
    return Int8Check(
        f"{files[1].parent.name}/{files[1].name}" if target == "paddleocr" else files[1].name, len(words),
        sum(one != other for one, other in zip(*texts, strict=True)), sum(label is not None for label in labels),
        (hits[0], hits[1]), (1e3 * float(np.median(times[0])), 1e3 * float(np.median(times[1]))),
        (files[0].stat().st_size, files[1].stat().st_size), by,
    )  # fmt: skip


def single_reader(reader: Reader, target: TargetName, file: Path) -> Callable[[Image.Image], tuple[str, float]]:
    """Open a file on one thread; the result reads one picture: its text, and the seconds that the graph took."""
    if target == "onnx":
        own = OnnxReader(file, threads=1)

        def compute(picture: Image.Image) -> tuple[np.ndarray, float]:
            images = to_array([picture], reader.image_size, reader.keep_aspect)
            start = time.perf_counter()
            return own.logits(images), time.perf_counter() - start
    else:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        session = onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])

        def compute(picture: Image.Image) -> tuple[np.ndarray, float]:
            images = PROGRAMS[target].batch([picture], form_of(reader))
            start = time.perf_counter()
            scores = session.run(None, {session.get_inputs()[0].name: images})[0]
            return TARGETS[target].to_logits(scores), time.perf_counter() - start

    def read(picture: Image.Image) -> tuple[str, float]:
        logits, seconds = compute(picture)
        return reader.readings(torch.from_numpy(logits))[0].text, seconds

    return read


def write_int8(
    reader: Reader, folder: Path, targets: Sequence[TargetName], words: Sequence[Word], limit: float
) -> list[Int8Check]:
    """Write an 8-bit file beside each file in a reader's folder, and measure it.

    Args:
        reader: in eval mode, on the CPU.
        folder: holds the files of 32 bits.
        targets: what they are for; see `int8_file`.
        words: real pictures to measure on.
        limit: percent of words that may change.

    Raises:
        Int8Error: when more change.
    """
    checks = []
    for target in targets:
        file, small = folder / FILES[target], folder / int8_file(target)
        small.parent.mkdir(exist_ok=True)
        write_file(small, quantize(onnx.load(file)).SerializeToString())
        if target == "paddleocr":
            write_file(small.with_name("inference.yml"), file.with_name("inference.yml").read_bytes())
        check = check_int8(reader, target, (file, small), words)
        if check.percent > limit:
            raise Int8Error(f"{check}; more than the {limit:g}% of --int8-limit")
        checks.append(check)
    return checks
