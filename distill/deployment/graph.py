"""From exported parts to one ONNX graph: the Loop around a step, shared weights, means that keep their digits."""

from __future__ import annotations

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

OPSET = 18
"""Old enough for every onnxruntime since 1.14, new enough for the exporter."""
INPUT, OUTPUT = "images", "logits"


def join(
    opening: ModelProto, step: ModelProto, most_steps: int, classes: int, closing: ModelProto | None = None
) -> ModelProto:
    """Build the whole: the opening's nodes, a Loop over the step, its logits turned to (N, steps, classes), a closing.

    Args:
        opening: images -> carried values (content, ended, cache), then the memory.
        step: position, carried values, memory -> whether to go on, carried values, logits (N, classes).
        most_steps: of the Loop.
        classes: C + 1.
        closing: logits (N, most_steps, classes), memory -> logits; None ends with the Loop's.
    """
    graph = opening.graph
    mean_by_axis(graph)
    made = [output.name for output in graph.output]
    layers = (len(made) - 2) // 2
    carried, memory = made[: 2 + layers], made[2 + layers :]
    trips = whole_number(graph, "most_steps", most_steps)
    *_, by_step = add_loop(graph, step.graph, carried, memory, trips, "ar")
    read = words_first(graph, by_step, OUTPUT if closing is None else "greedy/logits")
    if closing is not None:
        append(graph, closing.graph, [lengthen(graph, read, most_steps), *memory], [OUTPUT], "closing")
    return finish(opening, classes)


def add_loop(
    graph: GraphProto, step: GraphProto, carried: list[str], memory: list[str], trips: str, name: str
) -> list[str]:
    """Let a Loop over a step follow; gives the names of the last carried values, then of what each step gave, stacked.

    Args:
        graph: grows.
        step: position (or nothing), carried values, memory -> whether to go on, carried values, what it gives.
        carried: values of the graph that the Loop starts with.
        memory: values that every step looks at.
        trips: value that says how many steps there are at most.
        name: of the Loop; its values are called after it.
    """
    body = loop_body(step, carried=len(carried), memory=memory, prefix=f"{name}/step")
    share_weights(graph, body)
    graph.initializer.append(helper.make_tensor(f"{name}/go_on", TensorProto.BOOL, [], [True]))
    results = [f"{name}/result{number}" for number in range(len(body.output) - 1)]
    graph.node.append(helper.make_node("Loop", [trips, f"{name}/go_on", *carried], results, name, body=body))
    return results


def words_first(graph: GraphProto, by_step: str, output: str) -> str:
    """Turn logits (steps, N, classes) to (N, steps, classes), call them `output`, and give that name."""
    graph.node.append(helper.make_node("Transpose", [by_step], [output], f"{output}/words_first", perm=[1, 0, 2]))
    return output


def whole_number(graph: GraphProto, name: str, value: int) -> str:
    """Put a scalar into the graph and give its name."""
    graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [], [value]))
    return name


def whole(model: ModelProto, classes: int) -> ModelProto:
    """Build the graph of a reader that was exported in one piece, images -> logits."""
    graph = model.graph
    mean_by_axis(graph)
    rename({graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}, graph.node)
    return finish(model, classes)


def lengthen(graph: GraphProto, logits: str, steps: int) -> str:
    """Fill logits (N, S, classes) up to (N, steps, classes) with zeros, and name the result.

    A Loop that stopped early has seen every word's end, and what follows an end is closed to all that look.
    """
    own = f"{logits}/lengthen"
    for name, dims, values in (("steps", [1], [steps]), ("before", [4], [0] * 4), ("after", [1], [0])):
        graph.initializer.append(helper.make_tensor(f"{own}/{name}", TensorProto.INT64, dims, values))
    graph.node.extend(
        [helper.make_node("Shape", [logits], [f"{own}/seen"], start=1, end=2),
         helper.make_node("Sub", [f"{own}/steps", f"{own}/seen"], [f"{own}/lacking"]),
         helper.make_node("Concat", [f"{own}/before", f"{own}/lacking", f"{own}/after"], [f"{own}/pads"], axis=0),
         helper.make_node("Pad", [logits, f"{own}/pads"], [f"{own}/logits"])]
    )  # fmt: skip
    return f"{own}/logits"


def append(graph: GraphProto, part: GraphProto, inputs: list[str], outputs: list[str], name: str) -> list[str]:
    """Let a copy of a part follow: its inputs are values of the graph, its outputs get names, its values a prefix."""
    part = copied(part)
    given = dict(zip([value.name for value in part.input], inputs, strict=True))
    given |= dict(zip([value.name for value in part.output], outputs, strict=True))
    own = {value for node in part.node for value in [*node.input, *node.output] if value}
    rename({value: given.get(value, f"{name}/{value}") for value in own}, part.node)
    for tensor in part.initializer:
        tensor.name = f"{name}/{tensor.name}"
    share_weights(graph, part)
    graph.node.extend(part.node)
    return outputs


def copied(part: GraphProto) -> GraphProto:
    """Copy a part, so that it can follow once more."""
    made = GraphProto()
    made.CopyFrom(part)
    return made


def finish(model: ModelProto, classes: int) -> ModelProto:
    """Declare input and output, and leave out all that says where the graph comes from."""
    graph = model.graph
    size = [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim[1:]]
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *size]))
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", "steps", classes]))
    graph.name = "student"
    forget_traces(graph)
    return helper.make_model(
        graph, producer_name="symdistill", ir_version=model.ir_version,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )  # fmt: skip


def loop_body(step: GraphProto, carried: int, memory: list[str], prefix: str) -> GraphProto:
    """Make a copy of the step a Loop body: position, condition, carried values in; the memory is seen from outside."""
    step = copied(step)
    names = [value.name for value in step.input]
    position, *states = names if len(names) > carried + len(memory) else ("position", *names)
    outside = dict(zip(states[carried:], memory, strict=True))
    own = {name for node in step.node for name in [*node.input, *node.output] if name}
    own |= {tensor.name for tensor in step.initializer} | set(names) | {value.name for value in step.output}
    rename({name: outside.get(name, f"{prefix}/{name}") for name in own}, step.node)
    for tensor in step.initializer:
        tensor.name = f"{prefix}/{tensor.name}"
    types = {value.name: value.type.tensor_type.elem_type for value in [*step.input, *step.output]}
    inputs = [helper.make_tensor_value_info(f"{prefix}/{position}", TensorProto.INT64, []),
              helper.make_tensor_value_info(f"{prefix}/go_on_in", TensorProto.BOOL, [])]  # fmt: skip
    inputs += [helper.make_tensor_value_info(f"{prefix}/{name}", types[name], None) for name in states[:carried]]
    results = [helper.make_tensor_value_info(f"{prefix}/{value.name}", types[value.name], [] if k == 0 else None)
               for k, value in enumerate(step.output)]  # fmt: skip
    return helper.make_graph(list(step.node), prefix, inputs, results, list(step.initializer))


def rename(names: dict[str, str], nodes: list[NodeProto]) -> None:
    """Rename values in `nodes`; neither part has control flow, so there are no inner graphs to follow."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        if node.name:
            node.name = names.get(node.output[0], node.output[0])


def share_weights(graph: GraphProto, body: GraphProto) -> None:
    """Move a part's weights into the graph, those that it has already only once."""
    known = {content_of(tensor): tensor.name for tensor in graph.initializer}
    same = {}
    for tensor in body.initializer:
        name = known.setdefault(content_of(tensor), tensor.name)
        same[tensor.name] = name
        if name == tensor.name:
            graph.initializer.append(tensor)
    rename(same, body.node)
    del body.initializer[:]


def mean_by_axis(graph: GraphProto) -> None:
    """Take means over several axes one axis at a time.

    onnxruntime adds up all numbers of a mean in one running sum. Over the 4,096 pixels of a channel that costs three
    digits, which the division by the small spread of a flat picture brings to the fore.
    """
    constant = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        axes = constant.get(node.input[1]) if node.op_type == "ReduceMean" and len(node.input) > 1 else None
        keeps = all(attribute.i for attribute in node.attribute if attribute.name == "keepdims")
        if axes is None or axes.size < 2 or not keeps:
            graph.node.append(node)
            continue
        value = node.input[0]
        for turn, axis in enumerate(sorted(axes.tolist(), reverse=True)):
            made = node.output[0] if turn == axes.size - 1 else f"{node.output[0]}/axis{axis}"
            graph.initializer.append(helper.make_tensor(f"{node.output[0]}/only{axis}", TensorProto.INT64, [1], [axis]))
            graph.node.append(
                helper.make_node("ReduceMean", [value, f"{node.output[0]}/only{axis}"], [made], keepdims=1)
            )
            value = made


def forget_traces(graph: GraphProto) -> None:
    """Drop what the exporter notes on every node: lines of source, with the paths of the machine it ran on."""
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                forget_traces(attribute.g)
    for value in [graph, *graph.input, *graph.output, *graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]


def content_of(tensor: TensorProto) -> tuple[int, tuple[int, ...], bytes]:
    """Type, shape and bytes of a weight: what makes two of them one."""
    array = onnx.numpy_helper.to_array(tensor)
    return tensor.data_type, tuple(tensor.dims), array.tobytes()
