"""The programs of others that a CTC reader is exported for, and the graph that each of them wants.

All files hold the same weights. What differs is how pictures come in and how the scores go out: softmax or none, the
blank first or last, pictures or columns first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
import onnx
import torch
from onnx import GraphProto, ModelProto, TensorProto, helper
from onnxscript import optimizer
from torch import Tensor, nn

from distill.deployment.fitting import Form, Halved, PaddedBlack, PaddedZero, Stretched
from distill.deployment.graph import append, assemble_whole, declare, reduce_axis_by_axis, rename
from distill.deployment.onnx_export import BATCH, build_model, to_onnx
from distill.deployment.onnx_reader import INPUT
from distill.deployment.snippets import TargetName
from students.ctc import CtcReader
from students.encoders import ConvEncoder
from students.errors import UserError
from students.reading import Reader

Scores = Literal["logits", "softmax", "log_softmax"]
CHARACTER = "character"
"""Metadata key of the dictionary, a character a line: RapidOCR reads it."""
BLANK_FIRST = "reader/logits"
SIZES = {2: torch.export.Dim("height", min=8, max=2**12), 3: torch.export.Dim("width", min=16, max=2**16)}
"""Axes of pictures whose size a program chooses."""
PADDLE_MODEL = "PP-OCRv6_tiny_rec"
"""PaddleOCR opens folders of models that it knows by name only; this one reads CTC columns as ours do."""
ONNXTR_MEAN, ONNXTR_STD = (0.694, 0.695, 0.693), (0.299, 0.296, 0.301)
"""OnnxTR's normalisation for its CRNNs, when nothing else is asked for."""


@dataclass(frozen=True)
class Target:
    """A program that runs CTC readers as ONNX files."""

    title: str = field(compare=False)
    """Its name for people; programs that are equal but for it take the same file."""
    fit: Callable[[Form], nn.Module]
    """Makes the module that maps its pictures to a reader's."""
    input_size: Callable[[Form], tuple[int, int]]
    """Returns height and width to export with; only an example on sides that `free` leaves open."""
    free: Callable[[Form], tuple[str | None, str | None]]
    """Names the sizes, height and width, that may differ from picture to picture."""
    scores: Scores
    """What it takes for scores of the characters."""
    blank_last: bool = False
    """Whether it wants the blank behind the characters, not before."""
    columns_first: bool = False
    """Whether it wants (T, 1, C) of one picture, not (N, T, C)."""

    def finish(self, logits: Tensor) -> Tensor:
        """Compute what the graph gives from logits (N, T, C) with the blank first, in PyTorch."""
        if self.blank_last:
            logits = logits.roll(-1, dims=-1)
        if self.scores != "logits":
            logits = logits.softmax(dim=-1) if self.scores == "softmax" else logits.log_softmax(dim=-1)
        return logits.transpose(0, 1) if self.columns_first else logits

    def to_logits(self, scores: np.ndarray) -> np.ndarray:
        """Undo `finish`: logits (N, T, C) with the blank first, up to what softmax drops."""
        if self.columns_first:
            scores = scores.transpose(1, 0, 2)
        if self.scores == "softmax":
            scores = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
        return np.roll(scores, 1, axis=-1) if self.blank_last else scores

    def append_tail(self, graph: GraphProto, value: str, classes: int) -> str:
        """Append nodes that do what `finish` does to a value of the graph, and name the result."""
        if self.blank_last:
            order = helper.make_tensor("tail/order", TensorProto.INT64, [classes], [*range(1, classes), 0])
            graph.initializer.append(order)
            graph.node.append(helper.make_node("Gather", [value, order.name], ["tail/blank_last"], axis=2))
            value = "tail/blank_last"
        if self.scores != "logits":
            kind = "Softmax" if self.scores == "softmax" else "LogSoftmax"
            graph.node.append(helper.make_node(kind, [value], ["tail/scores"], axis=-1))
            value = "tail/scores"
        if self.columns_first:
            graph.node.append(helper.make_node("Transpose", [value], ["tail/columns_first"], perm=[1, 0, 2]))
            value = "tail/columns_first"
        return value


def padded_size(form: Form) -> tuple[int, int]:
    """Return the smallest picture of RapidOCR and PaddleOCR, when nothing else is asked for."""
    return 48, 320


def opencv_size(form: Form) -> tuple[int, int]:
    """Return the size that OpenCV is told, or its largest."""
    return (2 * form.height, 2 * form.width) if form.keep_aspect else OPENCV_SIZE


def any_size(form: Form) -> tuple[str, str]:
    """Name both sizes: a program pads as it likes."""
    return "height", "width"


OPENCV_SIZE = (64, 256)
"""Height and width to which OpenCV stretches: twice the usual reader's, because it resizes without antialiasing."""
TARGETS: dict[TargetName, Target] = {
    "rapidocr": Target("RapidOCR", PaddedZero, padded_size, any_size, "softmax"),
    "paddleocr": Target("PaddleOCR", PaddedZero, padded_size, any_size, "softmax"),
    # OnnxTR takes a width of 3 for channels that come last, and so wants a number: "128" is a name that reads as one.
    "onnxtr": Target(
        "OnnxTR", lambda form: PaddedBlack(form, ONNXTR_MEAN, ONNXTR_STD), lambda form: (32, 128),
        lambda form: ("height", "128"), "logits", blank_last=True,
    ),
    "opencv": Target(
        "OpenCV", lambda form: Halved() if form.keep_aspect else Stretched(form, OPENCV_SIZE), opencv_size,
        lambda form: (None, "width" if form.keep_aspect else None), "log_softmax", columns_first=True,
    ),
}  # fmt: skip
"""Programs by the name of their target; `onnx`, a file of our own, is a target beside them."""


class UnpaddedReader(nn.Module):
    """A CTC reader of any width without the masks for padding, whose operations OpenCV lacks."""

    def __init__(self, reader: CtcReader) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W), none of it padding, to logits (N, T, C + 1)."""
        encoder = cast("ConvEncoder", self.reader.encoder)
        logits: Tensor = self.reader.column_head(ConvEncoder.stages(encoder, images)[0][:, 1:])
        return logits


def form_of(reader: Reader) -> Form:
    """Return the form of a reader's pictures."""
    return Form(*reader.image_size, reader.keep_aspect)


def check_target(reader: Reader, name: TargetName) -> None:
    """Check that a program can run a reader.

    Raises:
        UserError: for an attention decoder, or an alphabet that the file can't hold.
    """
    title = "a web page" if name == "web" else TARGETS[name].title
    if reader.LOGITS != "ctc":
        raise UserError(
            f"{title} runs CTC readers only, and this {type(reader).__name__.lower()} has an attention "
            "decoder; leave --target out for --onnx, or train a student with student.decoding=ctc"
        )
    if name == "web":
        return
    characters = list(reader.charset.characters)
    if "\n".join(characters).splitlines() != characters:
        raise UserError(f"the alphabet has a line break in it, which a dictionary for {name} can't hold; remove it")


def build_targets(reader: Reader, names: Sequence[TargetName], title: str) -> dict[TargetName, ModelProto]:
    """Build the graph of a CTC reader for each of some programs; the reader itself is exported once.

    Args:
        reader: whose device and mode are left as they were.
        names: keys of `TARGETS`.
        title: the reader's name, for the metadata.
    """
    core = build_model(reader)
    built: dict[Target, ModelProto] = {}
    for target in (TARGETS[name] for name in names):
        if target not in built:
            built[target] = build_target(reader, target, core, title)
    return {name: built[TARGETS[name]] for name in names}


def build_target(reader: Reader, target: Target, core: ModelProto, title: str) -> ModelProto:
    """Build one graph: a program's pictures -> the reader's, the reader (`core`), a program's scores."""
    classes = len(reader.charset.characters) + 1
    form = form_of(reader)
    free, chosen = target.free(form), target.input_size(form)
    # A batch of one would be taken for a constant; it is made one below.
    sizes = {0: BATCH, **{axis: SIZES[axis] for axis, name in zip((2, 3), free, strict=True) if name}}
    model = to_onnx(target.fit(form), (torch.rand(3, 3, *chosen),), (sizes,))
    graph = model.graph
    reduce_axis_by_axis(graph)
    rename({graph.input[0].name: INPUT}, graph.node)
    part = ModelProto()
    if target.columns_first and isinstance(reader, CtcReader) and form.keep_aspect:
        example = torch.rand(3, 3, form.height, form.width)
        part = assemble_whole(to_onnx(UnpaddedReader(reader).eval(), (example,), ({0: BATCH, 3: SIZES[3]},)), classes)
    else:
        part.CopyFrom(core)
    append(graph, part.graph, [graph.output[0].name], [BLANK_FIRST], "reader")
    output = target.append_tail(graph, BLANK_FIRST, classes)
    size = [name or length for name, length in zip(free, chosen, strict=True)]
    shape: list[int | str] = ["steps", 1, classes] if target.columns_first else ["batch", "steps", classes]
    finished = declare(model, [1 if target.columns_first else "batch", 3, *size], output, shape)
    # Folds what depends on a batch of one into constants: OpenCV before 5 knows no sizes that are computed.
    finished = optimizer.optimize(finished)
    del finished.graph.value_info[:]
    properties = {CHARACTER: "\n".join(reader.charset.characters), "name": title, "program": target.title}
    helper.set_model_props(finished, properties)
    onnx.checker.check_model(finished, full_check=True)
    return finished


def inference_yml(reader: Reader) -> str:
    """Describe a reader for PaddleOCR: what it does to pictures, and the alphabet."""
    described = {
        "Global": {"model_name": PADDLE_MODEL},
        "PreProcess": {
            "transform_ops": [
                {"DecodeImage": {"channel_first": False, "img_mode": "BGR"}},
                {"RecResizeImg": {"image_shape": [3, *padded_size(form_of(reader))]}},
            ]
        },
        "PostProcess": {"name": "CTCLabelDecode", "character_dict": list(reader.charset.characters)},
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"
