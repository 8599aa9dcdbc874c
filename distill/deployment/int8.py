"""Store the weights of exported files in 8 bits, and measure what that changes and saves.

Weights have a scale per output channel. Where that changes no more words than allowed, matrix products are computed in
8 bits too, which is quicker; else all weights are stored in 8 bits alone and computed in float. Convolutions always
are, since quantised activations cost small convolutional stems far more words.
"""

from __future__ import annotations

import copy
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
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from PIL import Image

from distill.deployment.comparison_words import ComparisonWord, count_right
from distill.deployment.onnx_reader import OnnxReader
from distill.deployment.parity import ParityError
from distill.deployment.programs import PROGRAMS
from distill.deployment.snippets import FILES, TargetName, int8_file
from distill.deployment.targets import TARGETS, form_of
from students.files import write_file
from students.pictures import to_array
from students.reading import Reader
from students.rounding import FEWEST, LARGEST

OUTPUT_AXES = {"Conv": 0, "Gemm": 1, "MatMul": 1}
"""Operations with constant weights, and the dimension of their output channels."""


def quantize(model: ModelProto, products: bool = True) -> ModelProto:
    """Return a graph with 8-bit weights in its matrix products and convolutions, and everything else as it was.

    Args:
        model: the graph of 32 bits.
        products: compute matrix products in 8 bits too, with scales of the activations that are found as it runs.
    """
    smaller = with_int8_products(model) if products else copy.deepcopy(model)
    store_weights(smaller.graph)
    return smaller


def with_int8_products(model: ModelProto) -> ModelProto:
    """Return a graph whose matrix products with constant weights are computed in 8 bits."""
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
    helper.set_model_props(smaller, properties)
    return smaller


def store_weights(graph: GraphProto) -> None:
    """Store constant weights of convolutions and products in 8 bits, a scale for each output channel.

    They become float by Cast and Mul, which a runtime computes once when it loads the file. After DequantizeLinear
    onnxruntime would compute the products in 8 bits too.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    added, stored = [], set()
    for node in graph.node:
        if node.op_type not in OUTPUT_AXES:
            continue
        name = node.input[1]
        if name not in weights or np.prod(weights[name].dims) < FEWEST:
            continue
        if name not in stored:
            small, scales = to_8_bits(numpy_helper.to_array(weights[name]), output_axis(node))
            graph.initializer.remove(weights[name])
            graph.initializer.append(numpy_helper.from_array(small, f"{name}/int8"))
            graph.initializer.append(numpy_helper.from_array(scales, f"{name}/scale"))
            cast = helper.make_node("Cast", [f"{name}/int8"], [f"{name}/cast"], to=TensorProto.FLOAT)
            added += [cast, helper.make_node("Mul", [f"{name}/cast", f"{name}/scale"], [f"{name}/float"])]
            stored.add(name)
        node.input[1] = f"{name}/float"
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def output_axis(node: NodeProto) -> int:
    """Return the dimension of a node's weights that its output channels stand in."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if transposed else OUTPUT_AXES[node.op_type]


def to_8_bits(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 weights and their scales along `axis`, of a shape that broadcasts."""
    others = tuple(number for number in range(values.ndim) if number != axis)
    scales = np.abs(values).max(axis=others, keepdims=True).astype(np.float32) / LARGEST
    scales[scales == 0] = 1
    return np.rint(values / scales).astype(np.int8), scales


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
    products: bool = True
    """Whether matrix products are computed in 8 bits, or weights are stored in 8 bits alone."""

    @property
    def percent(self) -> float:
        """Words that change, in percent."""
        return 100 * self.changed / self.words

    def __str__(self) -> str:
        how = "products and weights in 8 bits" if self.products else "weights in 8 bits"
        right = [f"{100 * hits / max(self.labelled, 1):.2f}" for hits in self.hits]
        accuracy = f"word accuracy {right[0]} -> {right[1]}%, " if self.labelled else ""
        return (
            f"{self.file} ({how}, {self.by}): {self.changed} of {self.words} words change ({self.percent:.2f}%), "
            f"{accuracy}{self.milliseconds[0]:.2f} -> {self.milliseconds[1]:.2f} ms a word on one thread, "
            f"{self.sizes[0] / 1e6:.2f} -> {self.sizes[1] / 1e6:.2f} MB"
        )


def check_int8(
    reader: Reader, target: TargetName, files: tuple[Path, Path], words: Sequence[ComparisonWord], products: bool = True
) -> Int8Check:
    """Compare the files of 32 and of 8 bits, one picture at a time on one thread.

    Args:
        reader: the reader in PyTorch.
        target: the program both were exported for, or `onnx`.
        files: that of 32 bits and that of 8.
        words: pictures, and labels where they are known.
        products: how the second was made, see `quantize`.
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
    (whole, labelled), (small, _) = (count_right(reader, words, read) for read in texts)
    return Int8Check(
        f"{files[1].parent.name}/{files[1].name}" if target == "paddleocr" else files[1].name, len(words),
        sum(one != other for one, other in zip(*texts, strict=True)), labelled, (whole, small),
        (1e3 * float(np.median(times[0])), 1e3 * float(np.median(times[1]))),
        (files[0].stat().st_size, files[1].stat().st_size), by, products,
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
    reader: Reader, folder: Path, targets: Sequence[TargetName], words: Sequence[ComparisonWord], limit: float
) -> list[Int8Check]:
    """Write an 8-bit file beside each file in a reader's folder, the quickest that reads alike, and measure it.

    Args:
        reader: in eval mode, on the CPU.
        folder: holds the files of 32 bits.
        targets: what they are for; see `int8_file`.
        words: real pictures to measure on.
        limit: percent of words that may change.

    Raises:
        ParityError: when more change.
    """
    checks = []
    for target in targets:
        file, small = folder / FILES[target], folder / int8_file(target)
        small.parent.mkdir(exist_ok=True)
        if target == "paddleocr":
            write_file(small.with_name("inference.yml"), file.with_name("inference.yml").read_bytes())
        for products in (True, False):
            write_file(small, quantize(onnx.load(file), products).SerializeToString())
            check = check_int8(reader, target, (file, small), words, products)
            if check.percent <= limit:
                break
        else:
            raise ParityError(f"{check}; more than the {limit:g}% of --int8-limit")
        checks.append(check)
    return checks
