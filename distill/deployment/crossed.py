"""CLIP4STR as an ONNX graph: a Loop for each branch, the caption between them, refinements of both behind them."""

from __future__ import annotations

import torch
from onnx import GraphProto, ModelProto, TensorProto, helper
from torch import Tensor, nn

from distill.deployment.captions import GraphCaptions
from distill.deployment.graph import OUTPUT, add_loop, append, finish, lengthen, mean_by_axis, whole, whole_number
from distill.deployment.parts import (
    BATCH,
    Step,
    begin,
    export_step,
    flat,
    paired,
    to_onnx,
)
from students.two_stream import CharacterDecoder
from teachers.clip4str import Clip4Str, CrossMemory


def build_crossed(reader: Clip4Str, cross: CharacterDecoder) -> ModelProto:
    """Build the graph of a CLIP4STR with its cross branch, decoding as it is configured.

    Raises:
        UserError: for captions that can't be made inside a graph, see `GraphCaptions`.
    """
    crossing, classes = Crossing(reader, cross), cross.head.out_features
    if reader.config.decoding == "one-shot":
        return whole(to_onnx(OneShot(reader, crossing), (zeros(reader),), ({0: BATCH},)), classes)
    return join_branches(reader, crossing, cross.steps(None), classes)


class Crossing(nn.Module):
    """From what the visual branch read to what the cross branch looks at.

    Args:
        reader: has the text tower.
        decoder: its cross branch.
    """

    def __init__(self, reader: Clip4Str, decoder: CharacterDecoder) -> None:
        super().__init__()
        self.reader, self.decoder = reader, decoder
        self.captions = GraphCaptions(reader)

    def pictures(self, features: Tensor) -> list[Tensor]:
        """Project a picture's features (N, S, D) for the cross branch: keys and values."""
        return flat(CrossMemory(self.reader, self.decoder, features).image_keys)

    def memory(self, logits: Tensor, pictures: list[Tensor]) -> list[Tensor]:
        """Join pictures with the captions of the visual branch's logits (N, T, C + 1): keys and values."""
        texts = flat(self.decoder.memory_keys(self.reader.encode_captions(self.captions(logits.argmax(dim=-1)))))
        return [torch.cat(pair, dim=2) for pair in zip(pictures, texts, strict=True)]

    def forward(self, logits: Tensor, pictures: list[Tensor]) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Begin the cross branch behind the visual one; see `parts.begin`."""
        return begin(self.decoder, self.memory(logits, pictures))


class Opening(nn.Module):
    """Everything that is made once per picture, for both branches."""

    def __init__(self, reader: Clip4Str, crossing: Crossing) -> None:
        super().__init__()
        self.reader, self.crossing = reader, crossing

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor], list[Tensor]]:
        """Begin the visual branch (see `parts.begin`) and give the pictures of the cross branch."""
        features, visual = self.reader.encode(images), self.reader.visual_decoder
        return *begin(visual, flat(visual.memory_keys(features))), self.crossing.pictures(features)


class Refinements(nn.Module):
    """What follows the greedy readings of both branches: each reads again, the visual one first."""

    def __init__(self, reader: Clip4Str, crossing: Crossing) -> None:
        super().__init__()
        self.reader, self.crossing = reader, crossing

    def forward(self, visual: Tensor, cross: Tensor, memory: list[Tensor], pictures: list[Tensor]) -> Tensor:
        """Map logits (N, T, C + 1) of all T positions of both branches to the cross branch's last ones."""
        decoder, steps = self.reader.visual_decoder, self.reader.visual_decoder.steps(None)
        for _ in range(self.reader.config.refinements):
            visual = decoder.refine(paired(memory), visual, steps)
            joined = paired(self.crossing.memory(visual, pictures))
            cross = self.crossing.decoder.refine(joined, cross, steps)
        return cross


class OneShot(nn.Module):
    """A reader that reads all positions at once, with both branches, and refines."""

    def __init__(self, reader: Clip4Str, crossing: Crossing) -> None:
        super().__init__()
        self.reader, self.crossing = reader, crossing
        self.refinements = Refinements(reader, crossing)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) to logits (N, T, C + 1)."""
        decoder, features = self.reader.visual_decoder, self.reader.encode(images)
        memory, steps = decoder.memory_keys(features), decoder.steps(None)
        visual, pictures = decoder.one_shot(memory, steps), self.crossing.pictures(features)
        cross = self.crossing.decoder.one_shot(paired(self.crossing.memory(visual, pictures)), steps)
        return self.refinements(visual, cross, flat(memory), pictures)


def join_branches(reader: Clip4Str, crossing: Crossing, steps: int, classes: int) -> ModelProto:
    """Build the graph of both branches, greedily and refined as configured.

    The cross branch takes as many steps as the visual one took. Before a refinement both readings are filled up to
    all positions with what reads as the end; of the cross branch's the last position goes first, since it is no
    context of a refinement, and need not be an end.
    """
    images = zeros(reader)
    with torch.no_grad():
        *_, memory, pictures = Opening(reader, crossing)(images)
        seen = torch.zeros(len(images), steps, classes)
        crossed = crossing.memory(seen, pictures)
    by_batch = {0: BATCH}
    opening = to_onnx(Opening(reader, crossing), (images,), (by_batch,))
    graph = opening.graph
    mean_by_axis(graph)
    made = [output.name for output in graph.output]
    layers = len(memory)
    carried, looked_at, seen_twice = made[: 2 + layers], made[2 + layers : 2 + 2 * layers], made[2 + 2 * layers :]

    visual_step = export_step(Step(reader.visual_decoder), memory)
    most = whole_number(graph, "most_steps", steps)
    visual = add_loop(graph, visual_step.graph, carried, looked_at, most, "visual", "visual/logits")
    filled = lengthen(graph, visual, steps)

    between = to_onnx(crossing, (seen, pictures), (by_batch, [by_batch] * len(pictures)))
    begun = [f"cross/begun{number}" for number in range(len(between.graph.output))]
    append(graph, between.graph, [filled, *seen_twice], begun, "crossing")
    graph.node.extend(
        [helper.make_node("Shape", [visual], ["cross/steps"], start=1, end=2),
         helper.make_node("Squeeze", ["cross/steps"], ["cross/most_steps"])]
    )  # fmt: skip
    cross_step = export_step(Step(crossing.decoder, stop=False), crossed)
    count = reader.config.refinements
    cross = add_loop(
        graph, cross_step.graph, begun[: 2 + layers], begun[2 + layers :], "cross/most_steps", "cross",
        "cross/logits" if count else OUTPUT,
    )  # fmt: skip
    if count:
        # The exporter takes one tensor that is given twice for one input: the readings must be two.
        closing = to_onnx(
            Refinements(reader, crossing), (seen, seen.clone(), memory, pictures),
            (by_batch, by_batch, [by_batch] * layers, [by_batch] * len(pictures)),
        )  # fmt: skip
        context = lengthen(graph, without_last(graph, cross), steps)
        append(graph, closing.graph, [filled, context, *looked_at, *seen_twice], [OUTPUT])
    return finish(opening, classes)


def without_last(graph: GraphProto, logits: str) -> str:
    """Cut the last position off logits (N, S, classes) and name the result."""
    first, last, axis = (f"{logits}/{name}" for name in ("first", "last", "axis"))
    for name, value in ((first, 0), (last, -1), (axis, 1)):
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    graph.node.append(helper.make_node("Slice", [logits, first, last, axis], [f"{logits}/context"]))
    return f"{logits}/context"


def zeros(reader: Clip4Str) -> Tensor:
    """Give three black pictures, an example for the exporter."""
    return torch.zeros(3, 3, *reader.image_size)
