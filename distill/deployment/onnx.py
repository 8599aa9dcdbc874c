"""One ONNX file per student: the encoder, then a Loop of greedy steps that stops when every word has ended.

A trace of the decoding loop would freeze the batch size and the number of steps of the example it saw. So two
parts are exported apart, `Opening` (the picture and all that is made once) and `Step` (one position), each with
its batch size left open, and an ONNX Loop is built around the second: the same loop that `Student.decode` runs.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from onnx import ModelProto, helper
from torch import Tensor, nn

from distill.deployment.graph import OPSET, join
from students.files import write_file
from students.student import Student

FORMAT = "symdistill-student"
"""What the metadata of such a file, and the config.json of such a folder, call themselves."""


class Opening(nn.Module):
    """Everything that is made once per picture."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Map (N, 3, H, W) to the start row (N, 1, D), ended (N,), an empty cache, and the memory's keys and values."""
        student = self.student
        memory = student.encode(images)
        pairs = [part for pair in student.decoder.memory_keys(memory) for part in pair]
        start = torch.full_like(images[:, :1, 0, 0], student.charset.start_id, dtype=torch.long)
        return student.text_embed(start), start[:, 0] < 0, [part[:, :, :0] for part in pairs], pairs


class Step(nn.Module):
    """One greedy position, as in `Student.decode`."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(
        self, position: Tensor, content: Tensor, ended: Tensor, cache: list[Tensor], memory: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor], Tensor]:
        """Decode `position` (a scalar): whether to go on, next content, ended, grown cache, logits (N, C + 1)."""
        student = self.student
        place = student.pos_queries.index_select(1, position.reshape(1))
        query = place + torch.zeros_like(content)
        output, grown = student.decoder.step(query, content, paired(cache), paired(memory))
        logits = student.head(output)
        chosen = logits.argmax(dim=-1)
        ended = ended | (chosen[:, 0] == student.charset.end_id)
        content = place + student.text_embed(chosen)
        return ~ended.all(), content, ended, [part for pair in grown for part in pair], logits[:, 0]


def paired(parts: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Group a flat list of keys and values by layer."""
    return list(zip(parts[::2], parts[1::2], strict=True))


def export_onnx(student: Student, path: str | Path, name: str = "student") -> None:
    """Write `student` as one ONNX file that needs no other: images (N, 3, H, W) -> logits (N, steps, C + 1).

    N is free; steps is one more than the longest reading of the batch, `max_length` + 1 at most. Alphabet, longest
    word, picture size and normalisation stand in the file's metadata. The file is written beside and renamed.

    Args:
        student: the student; exported in eval mode and float32, on the CPU.
        path: where to write.
        name: what the reader of the file calls itself.
    """
    path = Path(path)
    model = build_model(student)
    helper.set_model_props(model, metadata(student, name))
    onnx.checker.check_model(model, full_check=True)
    write_file(path, model.SerializeToString())


def metadata(student: Student, name: str) -> dict[str, str]:
    """Tell a reader all it needs beside the graph; every value is JSON."""
    facts = {
        "charset": student.charset.characters,
        "max_length": student.config.max_length,
        "image_size": list(student.image_size),
        "mean": 0.5,
        "std": 0.5,
        "end_id": student.charset.end_id,
        "params": student.parameters_count,
        "name": name,
    }
    return {"format": FORMAT, "schema": "1", **{key: json.dumps(value) for key, value in facts.items()}}


def build_model(student: Student) -> ModelProto:
    """Export both parts and join them with a Loop."""
    device, was_training = student.pos_queries.device, student.training
    student = student.cpu().eval()
    try:
        opening, step = export_parts(student)
    finally:
        student.to(device).train(was_training)
    return join(opening, step, student.config.max_length + 1, len(student.charset.characters) + 1)


def export_parts(student: Student) -> tuple[ModelProto, ModelProto]:
    """Export `Opening` and `Step` with the batch size and the length of the cache left open."""
    # Older torch needs bounds; what is past grows to one row a step.
    batch, past = torch.export.Dim("batch", min=1, max=2**20), torch.export.Dim("past", min=0, max=2**10)
    images = torch.zeros(3, 3, *student.image_size)
    with torch.no_grad():
        content, ended, empty, memory = Opening(student)(images)
    cache = [part.new_zeros(3, part.shape[1], 4, part.shape[3]) for part in empty]
    by_batch = {0: batch}
    opening = to_onnx(Opening(student), (images,), (by_batch,))
    step = to_onnx(
        Step(student),
        (torch.tensor(4), content, ended, cache, memory),
        (None, by_batch, by_batch, [{0: batch, 2: past}] * len(cache), [by_batch] * len(memory)),
    )
    return opening, step


def to_onnx(part: nn.Module, example: tuple[object, ...], dynamic: tuple[object, ...]) -> ModelProto:
    """Export one part; a size that was declared open and gets frozen is an error, never a silent constant."""
    with torch.no_grad(), quiet():
        # strict: the non-strict tracer turns a len(tensor) in a model into a constant.
        program = torch.export.export(part.eval(), example, dynamic_shapes=dynamic, strict=True)
        exported = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
    if exported is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return exported.model_proto


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the exporter's remarks about itself."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
