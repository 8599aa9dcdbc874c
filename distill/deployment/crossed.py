"""CLIP4STR as an ONNX graph: a Loop for each branch, one that merges the caption between them, refine_iters behind."""

from __future__ import annotations

import torch
from onnx import GraphProto, ModelProto, TensorProto, helper
from torch import Tensor, nn

from distill.deployment.captions import GraphCaptions
from distill.deployment.graph import (
    OUTPUT,
    add_loop,
    append,
    finish,
    lengthen,
    mean_by_axis,
    whole_number,
    words_first,
)
from distill.deployment.parts import (
    BATCH,
    Refinements,
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
    branches = Branches(reader, Crossing(reader, cross))
    refine_iters = reader.config.refine_iters
    visual, steps = branches.read_visual()
    answer = branches.read_cross(branches.caption(visual, "first"), steps, OUTPUT if refine_iters == 0 else "cross/0")
    for turn in range(1, refine_iters + 1):
        visual = branches.refine_visual(visual, f"visual/{turn}")
        ids = branches.caption(visual, f"caption/{turn}")
        answer = branches.refine_cross(answer, ids, OUTPUT if turn == refine_iters else f"cross/{turn}")
    return finish(branches.opening, cross.head.out_features)


class Crossing(nn.Module):
    """From a caption to what the cross branch looks at.

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

    def memory(self, ids: Tensor, pictures: list[Tensor]) -> list[Tensor]:
        """Join pictures with captions of merged token ids (N, T): keys and values."""
        texts = flat(self.decoder.memory_keys(self.reader.encode_captions(self.captions.frame(ids))))
        return [torch.cat(pair, dim=2) for pair in zip(pictures, texts, strict=True)]


class Opening(nn.Module):
    """Everything that is made once per picture, for both branches.

    Args:
        reader: reads greedily, or in one shot.
        crossing: its cross branch.
    """

    def __init__(self, reader: Clip4Str, crossing: Crossing) -> None:
        super().__init__()
        self.reader, self.crossing = reader, crossing

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Begin the visual branch (`parts.begin`), or read with it, (N, T, C + 1); keys and values of both branches."""
        features, visual = self.reader.encode(images), self.reader.visual_decoder
        memory, pictures = visual.memory_keys(features), self.crossing.pictures(features)
        if self.reader.config.decoding == "nar":
            return [visual.nar(memory, visual.steps(None))], flat(memory), pictures
        start, ended, cache, looked_at = begin(visual, flat(memory))
        return [start, ended, *cache], looked_at, pictures


class Spelling(nn.Module):
    """Begin a caption: what logits (N, T, C + 1) read, in token ids (N, T) that are not merged yet."""

    def __init__(self, captions: GraphCaptions) -> None:
        super().__init__()
        self.captions = captions

    def forward(self, logits: Tensor) -> Tensor:
        """See the class."""
        return self.captions.spell(logits.argmax(dim=-1))


class CrossBeginning(nn.Module):
    """Begin the cross branch behind a caption, as `Opening` does the visual one."""

    def __init__(self, crossing: Crossing) -> None:
        super().__init__()
        self.crossing = crossing

    def forward(self, ids: Tensor, pictures: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Map merged token ids (N, T) and pictures to the beginning, or logits, and what is looked at."""
        decoder, memory = self.crossing.decoder, self.crossing.memory(ids, pictures)
        if self.crossing.reader.config.decoding == "nar":
            return [decoder.nar(paired(memory), decoder.steps(None))], []
        start, ended, cache, looked_at = begin(decoder, memory)
        return [start, ended, *cache], looked_at


class CrossRefinement(nn.Module):
    """Read again with the cross branch."""

    def __init__(self, crossing: Crossing) -> None:
        super().__init__()
        self.crossing = crossing

    def forward(self, logits: Tensor, ids: Tensor, pictures: list[Tensor]) -> Tensor:
        """Map logits (N, T, C + 1) of all T positions and a new caption's token ids (N, T) to new logits."""
        decoder = self.crossing.decoder
        return decoder.refine(paired(self.crossing.memory(ids, pictures)), logits, decoder.steps(None))


class Branches:
    """The graph of both branches while it grows: each part is exported once, and may follow several times.

    Readings are filled up to all T positions with what reads as the end.

    Args:
        reader: a CLIP4STR.
        crossing: its cross branch.
    """

    def __init__(self, reader: Clip4Str, crossing: Crossing) -> None:
        self.reader, self.crossing = reader, crossing
        self.nar = reader.config.decoding == "nar"
        images, opening = torch.zeros(3, 3, *reader.image_size), Opening(reader, crossing)
        with torch.no_grad():
            _, self.memory, self.pictures = opening(images)
        self.steps, self.by_batch = crossing.decoder.steps(None), {0: BATCH}
        self.logits = torch.zeros(3, self.steps, crossing.decoder.head.out_features)
        self.ids = torch.zeros(3, self.steps, dtype=torch.long)
        self.opening = to_onnx(opening, (images,), (self.by_batch,))
        self.graph = self.opening.graph
        mean_by_axis(self.graph)
        layers, made = len(self.memory), [output.name for output in self.graph.output]
        self.begun, self.seen, self.shown = made[: -2 * layers], made[-2 * layers : -layers], made[-layers:]
        self.parts: dict[str, GraphProto] = {}

    def part(self, kind: str, module: nn.Module, example: tuple[object, ...]) -> GraphProto:
        """Export a part once; all its inputs are open to the size of the batch."""
        if kind not in self.parts:
            open_sizes = tuple(
                [self.by_batch] * len(each) if isinstance(each, list) else self.by_batch for each in example
            )
            self.parts[kind] = to_onnx(module, example, open_sizes).graph
        return self.parts[kind]

    def read_visual(self) -> tuple[str, str]:
        """Read with the visual branch: its logits, and how many steps it took, for the cross branch."""
        if self.nar:
            return self.begun[0], ""
        most = whole_number(self.graph, "most_steps", self.steps)
        step = export_step(Step(self.reader.visual_decoder), self.memory)
        *_, by_step = add_loop(self.graph, step.graph, self.begun, self.seen, most, "visual")
        read = words_first(self.graph, by_step, "visual/logits")
        self.graph.node.extend(
            [helper.make_node("Shape", [read], ["cross/taken"], start=1, end=2),
             helper.make_node("Squeeze", ["cross/taken"], ["cross/steps"])]
        )  # fmt: skip
        return lengthen(self.graph, read, self.steps), "cross/steps"

    def caption(self, logits: str, name: str) -> str:
        """Make the caption of what was read: its token ids (N, T)."""
        captions = self.crossing.captions
        ids = [f"{name}/ids"]
        append(self.graph, self.part("spelling", Spelling(captions), (self.logits,)), [logits], ids, name)
        if captions.merging is None:
            return ids[0]
        # A step of the Loop merges one pair a row: there are T - 1 at most.
        trips = whole_number(self.graph, f"{name}/most_merges", self.steps - 1)
        return add_loop(self.graph, self.part("merging", captions.merging, (self.ids,)), ids, [], trips, name)[0]

    def read_cross(self, ids: str, steps: str, name: str) -> str:
        """Read with the cross branch, as many steps as the visual one took; logits to refine, or the answer."""
        beginning, made = CrossBeginning(self.crossing), [name]
        if not self.nar:
            made = [f"cross/begun{number}" for number in range(len(self.begun) + len(self.seen))]
        append(
            self.graph, self.part("beginning", beginning, (self.ids, self.pictures)), [ids, *self.shown], made, "begin"
        )
        if self.nar:
            return name
        with torch.no_grad():
            _, crossed = beginning(self.ids, self.pictures)
        step = export_step(Step(self.crossing.decoder, stop=False), crossed)
        begun, seen = made[: len(self.begun)], made[len(self.begun) :]
        *_, by_step = add_loop(self.graph, step.graph, begun, seen, steps, "cross")
        read = words_first(self.graph, by_step, name)
        # The last position is no context of a refinement, and need not be an end: it goes before the filling up.
        return read if name == OUTPUT else lengthen(self.graph, without_last(self.graph, read), self.steps)

    def refine_visual(self, logits: str, name: str) -> str:
        """Read again with the visual branch."""
        part = self.part("refining", Refinements(self.reader.visual_decoder, 1), (self.logits, self.memory))
        return append(self.graph, part, [logits, *self.seen], [name], f"{name}/refine")[0]

    def refine_cross(self, logits: str, ids: str, name: str) -> str:
        """Read again with the cross branch."""
        part = self.part("crossing", CrossRefinement(self.crossing), (self.logits, self.ids, self.pictures))
        return append(self.graph, part, [logits, ids, *self.shown], [name], f"refine/{name}")[0]


def without_last(graph: GraphProto, logits: str) -> str:
    """Cut the last position off logits (N, S, classes) and name the result."""
    first, last, axis = (f"{logits}/{name}" for name in ("first", "last", "axis"))
    for name, value in ((first, 0), (last, -1), (axis, 1)):
        graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [1], [value]))
    graph.node.append(helper.make_node("Slice", [logits, first, last, axis], [f"{logits}/context"]))
    return f"{logits}/context"
