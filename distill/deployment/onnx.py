"""One ONNX file per reader: the encoder, a Loop of greedy steps that stops when every word has ended, refine_iters.

A reader without steps, in one shot or off columns, is one piece.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, helper

from distill.deployment.crossed import build_crossed
from distill.deployment.graph import join, whole
from distill.deployment.parts import export_opening_and_step, export_refinements, export_whole
from students.ctc import CtcReader
from students.errors import UserError
from students.files import write_file
from students.parseq import Parseq
from students.reading import Reader
from students.student import Student
from students.two_stream import CharacterDecoder
from teachers.clip4str import Clip4Str

FORMAT = "symdistill-student"
"""What the metadata of such a file call it, whatever reader it holds: all are read alike."""


def build_greedy(reader: Any, refine_iters: int = 0, decoder: CharacterDecoder | None = None) -> ModelProto:
    """Build the graph of a reader with one decoder, by default itself: greedy steps, then refine_iters."""
    own: CharacterDecoder = reader if decoder is None else decoder
    opening, step = export_opening_and_step(reader, own)
    closing = export_refinements(reader, own, refine_iters) if refine_iters else None
    return join(opening, step, own.steps(None), own.head.out_features, closing)


def build_whole(reader: Reader) -> ModelProto:
    """Build the graph of a reader without steps."""
    return whole(export_whole(reader), len(reader.charset.characters) + 1)


def build_configured(reader: Student | Parseq) -> ModelProto:
    """Build the graph of a reader that decodes as it is configured."""
    nar = reader.config.decoding == "nar"
    return build_whole(reader) if nar else build_greedy(reader, reader.config.refine_iters)


def build_clip4str(reader: Clip4Str) -> ModelProto:
    """Build the graph of a CLIP4STR: of both branches, or of the visual one where that is all there is."""
    if reader.cross_decoder is not None:
        return build_crossed(reader, reader.cross_decoder)
    nar = reader.config.decoding == "nar"
    return build_whole(reader) if nar else build_greedy(reader, reader.config.refine_iters, reader.visual_decoder)


BUILDERS: dict[type[Reader], Callable[[Any], ModelProto]] = {
    Student: build_configured, CtcReader: build_whole, Parseq: build_configured, Clip4Str: build_clip4str,
}  # fmt: skip
"""What builds the graph of each kind of reader, in eval mode on the CPU: images -> logits."""
MOST_BYTES = 2**31 - 2**25
"""What weights may take in one ONNX file: protobuf ends at 2 GiB, and tables and nodes need some room."""


def export_onnx(reader: Reader, path: str | Path, name: str = "student") -> None:
    """Write `reader` as one ONNX file that needs no other: images (N, 3, H, W) -> logits (N, steps, C + 1).

    N is free; steps is one more than the longest reading of the batch, `max_length` + 1 at most and always for
    readers that refine or read in one shot; a CTC reader gives its columns. How words are spelt from them, alphabet,
    longest word, picture size and normalisation stand in the file's metadata. The file is written beside and renamed.

    Args:
        reader: exported in eval mode and float32, on the CPU, decoding as it is configured.
        path: where to write.
        name: what the reader of the file calls itself.

    Raises:
        UserError: for a kind of reader that has no graph, or one too large for a single file.
    """
    model = build_model(reader)
    helper.set_model_props(model, metadata(reader, name))
    onnx.checker.check_model(model, full_check=True)
    write_file(Path(path), model.SerializeToString())


def metadata(reader: Reader, name: str) -> dict[str, str]:
    """Tell a reader all it needs beside the graph; every value is JSON."""
    facts = {
        "charset": reader.charset.characters,
        "max_length": reader.config.max_length,
        "image_size": list(reader.image_size),
        "mean": 0.5,
        "std": 0.5,
        "end_id": reader.charset.end_id,
        "logits": reader.LOGITS,
        "params": reader.parameters_count,
        "name": name,
    }
    return {"format": FORMAT, "schema": "1", **{key: json.dumps(value) for key, value in facts.items()}}


def check_exportable(reader: Reader) -> None:
    """Refuse a reader without a graph, or with more weights than one file holds; raises `UserError`."""
    if type(reader) not in BUILDERS:
        known = ", ".join(kind.__name__ for kind in BUILDERS)
        raise UserError(f"a {type(reader).__name__} can't be exported to ONNX; leave --onnx out ({known} can)")
    if (size := 4 * reader.parameters_count) > MOST_BYTES:
        raise UserError(f"weights of {size / 2**30:.1f} GiB don't fit an ONNX file, which ends at 2; leave --onnx out")


def build_model(reader: Reader) -> ModelProto:
    """Build the graph of a reader, which is left as it was."""
    check_exportable(reader)
    device, was_training = reader.device, reader.training
    try:
        return BUILDERS[type(reader)](reader.cpu().eval())
    finally:
        reader.to(device).train(was_training)
