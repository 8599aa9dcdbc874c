"""ONNX recognisers whose words are stripes: a column of a certain grey is a certain character."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

HEIGHT, STRIPE = 8, 8
BLANK = 128


def greys(classes: int, blank: int) -> np.ndarray:
    """A grey for each class: middle grey, the padding of PaddleOCR, for the blank."""
    darker = np.linspace(20, 100, (classes - 1) // 2)
    lighter = np.linspace(156, 236, classes - 1 - len(darker))
    return np.insert(np.rint(np.concatenate([darker, lighter])), blank, BLANK).astype(int)


def save_recogniser(
    path: Path, characters: str, *, spaces: int = 0, blank: Literal["first", "last"] = "first", softmax: bool = True,
    shape: Sequence[int | str] = ("N", 3, HEIGHT, "W"), time_major: bool = False, columns_axis: bool = True,
    metadata: Mapping[str, str] | None = None, mean: float = 0.5, std: float = 0.5,
) -> np.ndarray:  # fmt: skip
    """Write a CTC recogniser that looks at the first channel only; returns the grey of each class."""
    classes = len(characters) + spaces + 1
    shades = greys(classes, 0 if blank == "first" else classes - 1)
    levels = ((shades / 255 - mean) / std).astype(np.float32)
    constants = {
        "zero": np.array([0], np.int64), "axis": np.array([2], np.int64), "levels": levels[None, None],
        "sharpness": np.float32(-2000),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["x", "zero"], ["red"], axis=1),
        helper.make_node("ReduceMean", ["red"], ["rows"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["rows", "axis"], ["columns"]),
        helper.make_node("Sub", ["columns", "levels"], ["far"]),
        helper.make_node("Mul", ["far", "far"], ["square"]),
        helper.make_node("Mul", ["square", "sharpness"], ["logits"]),
    ]
    name = "logits"
    if softmax:
        nodes.append(helper.make_node("Softmax", [name], ["probabilities"], axis=2))
        name = "probabilities"
    if time_major:
        nodes.append(helper.make_node("Transpose", [name], ["turned"], perm=[1, 0, 2]))
        name = "turned"
    if not columns_axis:
        nodes.append(helper.make_node("ReduceMean", [name], ["mean"], axes=[1], keepdims=0))
        name = "mean"
    output = [None] * (3 if columns_axis else 2)
    graph = helper.make_graph(
        nodes, "stripes", [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, output)],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return shades


def draw(shades: np.ndarray, classes: Sequence[int], channel: int | None = None) -> Image.Image:
    """Draw classes as stripes with blanks between them, in one channel or in all."""
    blank = np.full((HEIGHT, STRIPE), BLANK, np.uint8)
    stripes = [blank]
    for number in classes:
        stripes += [np.full((HEIGHT, STRIPE), shades[number], np.uint8), blank]
    grey = np.concatenate(stripes, axis=1)
    pixels = np.full((*grey.shape, 3), BLANK, np.uint8)
    pixels[:, :, slice(None) if channel is None else channel] = grey[:, :, None] if channel is None else grey
    return Image.fromarray(pixels)
