"""Export a reader as one ONNX file: its encoder, a Loop of greedy decoding steps, its refinements.

A trace of the decoding loop would freeze the batch size and the number of steps of its example. So what is computed
once a picture, one decoding step and the refinements are exported apart, each with its batch size left open, and an
ONNX Loop that stops when every word has ended is built around the step. A reader without steps (all positions at once,
CTC) is exported in one piece.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto, helper
from torch import Tensor, nn

from distill.deployment.graph import OPSET, assemble, assemble_whole
from distill.deployment.onnx_reader import FORMAT
from students.ctc import CtcReader
from students.decoder import KeysValues
from students.errors import UserError
from students.files import write_file
from students.language_model import NO_MODEL
from students.parseq import Parseq
from students.reading import Reader
from students.student import Student
from students.two_stream import CharacterDecoder
from teachers.clip4str import Clip4Str

MAX_BYTES = 2**31 - 2**25
"""Most bytes of weights in one ONNX file: protobuf ends at 2 GiB, and tables and nodes take some."""
# Older torch needs bounds; the cache grows by one row a step.
BATCH = torch.export.Dim("batch", min=1, max=2**20)
WIDTH = torch.export.Dim("width", min=8, max=2**14)
CACHED = torch.export.Dim("cached", min=0, max=2**10)


def export_onnx(reader: Reader, path: str | Path, name: str = "student") -> None:
    """Write `reader` as one ONNX file that needs no other: images (N, 3, H, W) -> logits (N, steps, C + 1).

    N is free; steps is one more than the longest reading of the batch, `max_length` + 1 at most and always for
    readers that refine or read all positions at once; a CTC reader gives its columns. Alphabet, longest word, picture
    size, normalisation and how words are decoded from the logits stand in the file's metadata.

    Args:
        reader: exported in eval mode and float32, on the CPU, decoding as it is configured.
        path: where to write.
        name: the reader's name, for tables.

    Raises:
        UserError: for a kind of reader that has no graph, or one too large for a single file.
    """
    model = build_model(reader)
    helper.set_model_props(model, metadata(reader, name))
    onnx.checker.check_model(model, full_check=True)
    write_file(Path(path), model.SerializeToString())


def metadata(reader: Reader, name: str) -> dict[str, str]:
    """Return what `OnnxReader` needs beside the graph; every value but `format` and `schema` is JSON."""
    entries = {
        "charset": reader.charset.characters,
        "max_length": reader.config.max_length,
        "image_size": list(reader.image_size),
        "keep_aspect": reader.keep_aspect,
        "turn_tall": reader.turn_tall,
        "language_model": getattr(reader.config, "language_model", NO_MODEL),
        "words": None if reader.language_model is None else reader.language_model.own_text,
        "mean": 0.5,
        "std": 0.5,
        "end_id": reader.charset.end_id,
        "logits": reader.LOGITS,
        "params": reader.parameters_count,
        "name": name,
    }
    return {"format": FORMAT, "schema": "1", **{key: json.dumps(value) for key, value in entries.items()}}


def check_exportable(reader: Reader) -> None:
    """Check that a reader has an ONNX graph that fits one file.

    Raises:
        UserError: naming why not.
    """
    if type(reader) not in BUILDERS:
        known = ", ".join(kind.__name__ for kind in BUILDERS)
        raise UserError(f"a {type(reader).__name__} can't be exported to ONNX; leave --onnx out ({known} can)")
    if isinstance(reader, Clip4Str) and reader.cross_decoder is not None:
        raise UserError(
            "the cross branch of a CLIP4STR can't be exported to ONNX; leave --onnx out, or export the visual branch "
            "alone with --visual-branch"
        )
    if (size := 4 * reader.parameters_count) > MAX_BYTES:
        raise UserError(f"weights of {size / 2**30:.1f} GiB don't fit an ONNX file, which ends at 2; leave --onnx out")


def build_model(reader: Reader) -> ModelProto:
    """Build the graph of a reader, whose device and mode are left as they were."""
    check_exportable(reader)
    device, was_training = reader.device, reader.training
    try:
        return BUILDERS[type(reader)](reader.cpu().eval())
    finally:
        reader.to(device).train(was_training)


def build_configured(reader: Any) -> ModelProto:
    """Build the graph of a student or PARSeq, or of a CLIP4STR's visual branch, that decodes as it is configured."""
    if getattr(reader.config, "decoding", "ar") == "nar":
        return build_whole(reader)
    return build_stepwise(reader, reader.visual_decoder if isinstance(reader, Clip4Str) else reader)


def build_stepwise(reader: Any, decoder: CharacterDecoder) -> ModelProto:
    """Build the graph of a reader whose `decoder` takes greedy steps, then refines."""
    images, refine_iters = torch.zeros(3, 3, *reader.image_size), getattr(reader.config, "refine_iters", 0)
    steps, classes, by_batch = decoder.steps(None), decoder.head.out_features, {0: BATCH}
    with torch.no_grad():
        content, ended, _, memory = Opening(reader, decoder)(images)
    opening = to_onnx(Opening(reader, decoder), (images,), (by_batch,))
    cache = [part.new_zeros(3, part.shape[1], 4, part.shape[3]) for part in memory]
    step = to_onnx(
        Step(decoder),
        (torch.tensor(4), content, ended, cache, memory),
        (None, by_batch, by_batch, [{0: BATCH, 2: CACHED}] * len(cache), [by_batch] * len(memory)),
    )
    if not refine_iters:
        return assemble(opening, step, steps, classes)
    logits = torch.zeros(3, steps, classes)
    closing = to_onnx(Refinements(decoder, refine_iters), (logits, memory), (by_batch, [by_batch] * len(memory)))
    return assemble(opening, step, steps, classes, closing)


def build_whole(reader: Reader) -> ModelProto:
    """Build the graph of a reader without steps: its forward pass in one piece."""
    free: dict[int, Any] = {0: BATCH, 3: WIDTH} if reader.keep_aspect else {0: BATCH}
    model = to_onnx(reader, (torch.zeros(3, 3, *reader.image_size),), (free,))
    return assemble_whole(model, len(reader.charset.characters) + 1)


BUILDERS: dict[type[Reader], Callable[[Any], ModelProto]] = {
    Student: build_configured, CtcReader: build_whole, Parseq: build_configured, Clip4Str: build_configured,
}  # fmt: skip
"""What builds the graph, images -> logits, of each kind of reader, in eval mode on the CPU."""


class Opening(nn.Module):
    """Encode pictures and prepare the state of the decoder's loop; runs once a batch.

    Args:
        reader: encodes pictures.
        decoder: reads characters from what it encoded; may be the reader itself.
    """

    def __init__(self, reader: Reader, decoder: CharacterDecoder) -> None:
        super().__init__()
        self.reader, self.decoder = reader, decoder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Map (N, 3, H, W) to the start row (N, 1, D), ended (N,), an empty cache, and the memory's keys and values."""
        memory = flatten(self.decoder.memory_keys(self.reader.encode(images)))
        start = torch.full_like(memory[0][:, :1, 0, 0], self.decoder.charset.start_id, dtype=torch.long)
        cache = [part[:, :, :0] for part in memory]
        return self.decoder.text_embed(start), start[:, 0] < 0, cache, memory


class Step(nn.Module):
    """One position of greedy decoding, as in `CharacterDecoder.greedy`."""

    def __init__(self, decoder: CharacterDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self, position: Tensor, content: Tensor, ended: Tensor, cache: list[Tensor], memory: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor], Tensor]:
        """Decode one position.

        Args:
            position: its number, a scalar.
            content: (N, 1, D) embedding of the character before it.
            ended: (N,) whether a word has its end already.
            cache: keys and values of the content so far.
            memory: keys and values of the picture.

        Returns:
            Whether to continue, the next content, ended and cache, and logits (N, C + 1).
        """
        decoder = self.decoder
        position_query = decoder.pos_queries.index_select(1, position.reshape(1))
        query = position_query + torch.zeros_like(content)
        output, grown = decoder.decoder.step(query, content, pair(cache), pair(memory))
        logits = decoder.head(output)
        chosen = logits.argmax(dim=-1)
        ended = ended | (chosen[:, 0] == decoder.charset.end_id)
        return ~ended.all(), position_query + decoder.text_embed(chosen), ended, flatten(grown), logits[:, 0]


class Refinements(nn.Module):
    """Decode all positions again, `count` times, each with the earlier reading as context."""

    def __init__(self, decoder: CharacterDecoder, count: int) -> None:
        super().__init__()
        self.decoder, self.count = decoder, count

    def forward(self, logits: Tensor, memory: list[Tensor]) -> Tensor:
        """Map logits (N, T, C + 1) of all T positions to those of the last refinement."""
        for _ in range(self.count):
            logits = self.decoder.refine(pair(memory), logits, self.decoder.steps(None))
        return logits


def to_onnx(part: nn.Module, example: tuple[object, ...], dynamic: tuple[object, ...]) -> ModelProto:
    """Export one part; a size that was declared dynamic and becomes constant is an error."""
    with torch.no_grad(), quiet():
        # strict: the non-strict tracer turns a len(tensor) in a model into a constant.
        program = torch.export.export(part.eval(), example, dynamic_shapes=dynamic, strict=True)
        exported = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
    if exported is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return exported.model_proto


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's warnings about itself."""
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


def flatten(pairs: list[KeysValues]) -> list[Tensor]:
    """List keys and values of all layers one after the other."""
    return [part for pair in pairs for part in pair]


def pair(parts: list[Tensor]) -> list[KeysValues]:
    """Group a flat list of keys and values by layer."""
    return list(zip(parts[::2], parts[1::2], strict=True))
