"""Assemble the exported parts of a reader into one ONNX graph: a Loop around the decoding step, weights stored once."""

from __future__ import annotations

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from distill.deployment.onnx_reader import INPUT, OUTPUT

OPSET = 18
"""Old enough for every onnxruntime since 1.14, new enough for the exporter."""


def assemble(
    opening: ModelProto, step: ModelProto, max_steps: int, classes: int, closing: ModelProto | None = None
) -> ModelProto:
    """Build the graph of a reader that decodes step by step.

    The opening's nodes come first, then a Loop over the step, whose logits are transposed to (N, steps, classes),
    then the closing.

    Args:
        opening: images -> loop state (content, ended, cache), then the memory's keys and values.
        step: position, loop state, memory -> whether to continue, loop state, logits (N, classes).
        max_steps: most iterations of the Loop.
        classes: C + 1.
        closing: logits (N, max_steps, classes), memory -> logits; None ends with the Loop's.
    """
    graph = opening.graph
    reduce_axis_by_axis(graph)
    outputs = [output.name for output in graph.output]
    layers = (len(outputs) - 2) // 2
    state, memory = outputs[: 2 + layers], outputs[2 + layers :]
    stacked = add_loop(graph, step.graph, state, memory, max_steps)
    logits = OUTPUT if closing is None else "ar/logits"
    graph.node.append(helper.make_node("Transpose", [stacked], [logits], f"{logits}/batch_first", perm=[1, 0, 2]))
    if closing is not None:
        append(graph, closing.graph, [pad_steps(graph, logits, max_steps), *memory], [OUTPUT], "closing")
    return finish(opening, classes)


def assemble_whole(model: ModelProto, classes: int) -> ModelProto:
    """Build the graph of a reader that was exported in one piece, images -> logits."""
    graph = model.graph
    reduce_axis_by_axis(graph)
    rename({graph.input[0].name: INPUT, graph.output[0].name: OUTPUT}, graph.node)
    return finish(model, classes)


def add_loop(graph: GraphProto, step: GraphProto, state: list[str], memory: list[str], max_steps: int) -> str:
    """Append a Loop over a step and name its stacked logits (steps, N, classes).

    Args:
        graph: grows.
        step: position, loop state, memory -> whether to continue, loop state, logits.
        state: values of the graph that the Loop starts with.
        memory: values of the graph that every step reads.
        max_steps: most iterations.
    """
    body = loop_body(step, len(state), memory)
    share_weights(graph, body)
    graph.initializer.extend(
        [helper.make_tensor("max_steps", TensorProto.INT64, [], [max_steps]),
         helper.make_tensor("loop/continue", TensorProto.BOOL, [], [True])]
    )  # fmt: skip
    results = [f"loop/result{number}" for number in range(len(body.output) - 1)]
    graph.node.append(helper.make_node("Loop", ["max_steps", "loop/continue", *state], results, "loop", body=body))
    return results[-1]


def loop_body(step: GraphProto, states: int, memory: list[str]) -> GraphProto:
    """Turn a step into a Loop's body: iteration, condition and `states` values in; the memory comes from outside."""
    prefix = "loop/step"
    position, *inputs = [value.name for value in step.input]
    outer = dict(zip(inputs[states:], memory, strict=True))
    names = {name for node in step.node for name in [*node.input, *node.output] if name}
    names |= {value.name for value in [*step.input, *step.output, *step.initializer]}
    rename({name: outer.get(name, f"{prefix}/{name}") for name in names}, step.node)
    for tensor in step.initializer:
        tensor.name = f"{prefix}/{tensor.name}"
    types = {value.name: value.type.tensor_type.elem_type for value in [*step.input, *step.output]}
    body_inputs = [
        helper.make_tensor_value_info(f"{prefix}/{position}", TensorProto.INT64, []),
        helper.make_tensor_value_info(f"{prefix}/continue", TensorProto.BOOL, []),
        *(helper.make_tensor_value_info(f"{prefix}/{name}", types[name], None) for name in inputs[:states]),
    ]
    body_outputs = [
        helper.make_tensor_value_info(f"{prefix}/{value.name}", types[value.name], None if number else [])
        for number, value in enumerate(step.output)
    ]
    return helper.make_graph(list(step.node), prefix, body_inputs, body_outputs, list(step.initializer))


def pad_steps(graph: GraphProto, logits: str, steps: int) -> str:
    """Pad logits (N, S, classes) to (N, steps, classes) with zeros and name the result.

    A Loop that stopped early has seen the end of every word, and positions behind an end are masked in a refinement.
    """
    prefix = f"{logits}/pad"
    for name, dims, values in (("steps", [1], [steps]), ("before", [4], [0] * 4), ("after", [1], [0])):
        graph.initializer.append(helper.make_tensor(f"{prefix}/{name}", TensorProto.INT64, dims, values))
    graph.node.extend(
        [helper.make_node("Shape", [logits], [f"{prefix}/decoded"], start=1, end=2),
         helper.make_node("Sub", [f"{prefix}/steps", f"{prefix}/decoded"], [f"{prefix}/missing"]),
         helper.make_node("Concat", [f"{prefix}/before", f"{prefix}/missing", f"{prefix}/after"], [f"{prefix}/pads"],
                          axis=0),
         helper.make_node("Pad", [logits, f"{prefix}/pads"], [f"{prefix}/logits"])]
    )  # fmt: skip
    return f"{prefix}/logits"


def append(graph: GraphProto, part: GraphProto, inputs: list[str], outputs: list[str], prefix: str) -> None:
    """Append a part whose inputs are values of the graph; its outputs get names, its own values a prefix."""
    names = dict(zip([value.name for value in part.input], inputs, strict=True))
    names |= dict(zip([value.name for value in part.output], outputs, strict=True))
    own = {value for node in part.node for value in [*node.input, *node.output] if value}
    rename({value: names.get(value, f"{prefix}/{value}") for value in own}, part.node)
    for tensor in part.initializer:
        tensor.name = f"{prefix}/{tensor.name}"
    share_weights(graph, part)
    graph.node.extend(part.node)


def finish(model: ModelProto, classes: int) -> ModelProto:
    """Declare input and output of a reader's graph, see `declare`."""
    size = [dim.dim_value or dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    return declare(model, ["batch", *size], OUTPUT, ["batch", "steps", classes])


def declare(model: ModelProto, inputs: list[int | str], output: str, outputs: list[int | str]) -> ModelProto:
    """Declare a graph's one input and one output, and drop every trace of where it was exported.

    Args:
        model: its input is called `INPUT` already.
        inputs: shape of the input; a name is a size that is free.
        output: name of the output.
        outputs: shape of the output.
    """
    graph = model.graph
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, inputs))
    graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, outputs))
    graph.name = "student"
    drop_traces(graph)
    return helper.make_model(
        graph, producer_name="symdistill", ir_version=model.ir_version,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )  # fmt: skip


def rename(names: dict[str, str], nodes: list[NodeProto]) -> None:
    """Rename values in `nodes`, which hold no inner graphs."""
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        if node.name:
            node.name = names.get(node.output[0], node.output[0])


def share_weights(graph: GraphProto, part: GraphProto) -> None:
    """Move a part's weights into the graph, storing equal ones once."""
    stored = {tensor_key(tensor): tensor.name for tensor in graph.initializer}
    shared = {}
    for tensor in part.initializer:
        name = stored.setdefault(tensor_key(tensor), tensor.name)
        shared[tensor.name] = name
        if name == tensor.name:
            graph.initializer.append(tensor)
    rename(shared, part.node)
    del part.initializer[:]


def tensor_key(tensor: TensorProto) -> tuple[int, tuple[int, ...], bytes]:
    """Return type, shape and bytes of a weight: equal keys are equal weights."""
    array = onnx.numpy_helper.to_array(tensor)
    return tensor.data_type, tuple(tensor.dims), array.tobytes()


def reduce_axis_by_axis(graph: GraphProto) -> None:
    """Replace means over several axes by means over one axis after the other.

    onnxruntime sums all numbers of a mean in one running sum. Over the 4,096 pixels of a channel that costs three
    digits, which the division by the small spread of a flat picture amplifies.
    """
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        axes = constants.get(node.input[1]) if node.op_type == "ReduceMean" and len(node.input) > 1 else None
        keeps_dims = all(attribute.i for attribute in node.attribute if attribute.name == "keepdims")
        if axes is None or axes.size < 2 or not keeps_dims:
            graph.node.append(node)
            continue
        value, output = node.input[0], node.output[0]
        for number, axis in enumerate(sorted(axes.tolist(), reverse=True)):
            result = output if number == axes.size - 1 else f"{output}/axis{axis}"
            graph.initializer.append(helper.make_tensor(f"{output}/only{axis}", TensorProto.INT64, [1], [axis]))
            graph.node.append(helper.make_node("ReduceMean", [value, f"{output}/only{axis}"], [result], keepdims=1))
            value = result


def drop_traces(graph: GraphProto) -> None:
    """Drop the exporter's notes on every node: lines of source, with the paths of the machine it ran on."""
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                drop_traces(attribute.g)
    for value in [graph, *graph.input, *graph.output, *graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
