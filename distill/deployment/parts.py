"""The parts that an ONNX file is joined from: what is made once per picture, one greedy position, the refine_iters.

A trace of the decoding loop would freeze the batch size and the number of steps of the example it saw. So the parts
are exported apart, each with its batch size left open, and an ONNX Loop is built around the step.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from onnx import ModelProto
from torch import Tensor, nn

from distill.deployment.graph import OPSET
from students.decoder import KeysValues
from students.reading import Reader
from students.two_stream import CharacterDecoder

# Older torch needs bounds; what is past grows to one row a step.
BATCH = torch.export.Dim("batch", min=1, max=2**20)
PAST = torch.export.Dim("past", min=0, max=2**10)


class Opening(nn.Module):
    """Everything that is made once per picture.

    Args:
        reader: encodes pictures.
        decoder: what reads characters off them; may be the reader itself.
    """

    def __init__(self, reader: Reader, decoder: CharacterDecoder) -> None:
        super().__init__()
        self.reader, self.decoder = reader, decoder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Map (N, 3, H, W) to the start row (N, 1, D), ended (N,), an empty cache, and the memory's keys and values."""
        return begin(self.decoder, flat(self.decoder.memory_keys(self.reader.encode(images))))


def begin(decoder: CharacterDecoder, memory: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Begin N words: the start row (N, 1, D), ended (N,), an empty cache, and the memory's keys and values."""
    start = torch.full_like(memory[0][:, :1, 0, 0], decoder.charset.start_id, dtype=torch.long)
    return decoder.text_embed(start), start[:, 0] < 0, [part[:, :, :0] for part in memory], memory


class Step(nn.Module):
    """One greedy position, as in `CharacterDecoder.greedy`; without `stop` it always says to go on."""

    def __init__(self, decoder: CharacterDecoder, stop: bool = True) -> None:
        super().__init__()
        self.decoder, self.stop = decoder, stop

    def forward(
        self, position: Tensor, content: Tensor, ended: Tensor, cache: list[Tensor], memory: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor], Tensor]:
        """Decode `position` (a scalar): whether to go on, next content, ended, grown cache, logits (N, C + 1)."""
        decoder = self.decoder
        place = decoder.pos_queries.index_select(1, position.reshape(1))
        query = place + torch.zeros_like(content)
        output, grown = decoder.decoder.step(query, content, paired(cache), paired(memory))
        logits = decoder.head(output)
        chosen = logits.argmax(dim=-1)
        ended = ended | (chosen[:, 0] == decoder.charset.end_id)
        content = place + decoder.text_embed(chosen)
        # Never a constant: the body of a Loop has to compute what it gives.
        go_on = ~ended.all() if self.stop else ended.any() | True
        return go_on, content, ended, flat(grown), logits[:, 0]


class Refinements(nn.Module):
    """What follows the greedy reading: `count` readings again, all positions at once."""

    def __init__(self, decoder: CharacterDecoder, count: int) -> None:
        super().__init__()
        self.decoder, self.count = decoder, count

    def forward(self, logits: Tensor, memory: list[Tensor]) -> Tensor:
        """Map logits (N, T, C + 1) of all T positions to those of the last refinement."""
        for _ in range(self.count):
            logits = self.decoder.refine(paired(memory), logits, self.decoder.steps(None))
        return logits


def export_opening_and_step(reader: Reader, decoder: CharacterDecoder) -> tuple[ModelProto, ModelProto]:
    """Export `Opening` and `Step` with the batch size and the length of the cache left open."""
    images = torch.zeros(3, 3, *reader.image_size)
    with torch.no_grad():
        memory = Opening(reader, decoder)(images)[3]
    return to_onnx(Opening(reader, decoder), (images,), ({0: BATCH},)), export_step(Step(decoder), memory)


def export_step(step: Step, memory: list[Tensor]) -> ModelProto:
    """Export one greedy position over a memory like the one given, of three pictures."""
    content = step.decoder.text_embed(torch.zeros(3, 1, dtype=torch.long)).detach()
    cache = [part.new_zeros(3, part.shape[1], 4, part.shape[3]) for part in memory]
    by_batch = {0: BATCH}
    return to_onnx(
        step,
        (torch.tensor(4), content, torch.zeros(3, dtype=torch.bool), cache, memory),
        (None, by_batch, by_batch, [{0: BATCH, 2: PAST}] * len(cache), [by_batch] * len(memory)),
    )


def export_refinements(reader: Reader, decoder: CharacterDecoder, count: int) -> ModelProto:
    """Export `Refinements` with the batch size left open."""
    steps, classes = decoder.steps(None), decoder.head.out_features
    with torch.no_grad():
        memory = Opening(reader, decoder)(torch.zeros(3, 3, *reader.image_size))[3]
    return to_onnx(
        Refinements(decoder, count),
        (torch.zeros(3, steps, classes), memory),
        ({0: BATCH}, [{0: BATCH}] * len(memory)),
    )


def export_whole(reader: Reader) -> ModelProto:
    """Export a reader's forward pass in one piece, for one that has no loop over positions."""
    return to_onnx(reader, (torch.zeros(3, 3, *reader.image_size),), ({0: BATCH},))


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


def flat(pairs: list[KeysValues]) -> list[Tensor]:
    """List keys and values of all layers one after the other."""
    return [part for pair in pairs for part in pair]


def paired(parts: list[Tensor]) -> list[KeysValues]:
    """Group a flat list of keys and values by layer."""
    return list(zip(parts[::2], parts[1::2], strict=True))
