"""What is done to the exported graphs changes no number but for the better."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper

from distill.deployment.graph import OPSET, reduce_axis_by_axis, share_weights


def model(*axes: int) -> ModelProto:
    """A mean of (N, 3, H, W) over some axes."""
    shape = ["N", 3, 32, 128]
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=1)], "mean",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, None)],
        [helper.make_tensor("axes", TensorProto.INT64, [len(axes)], axes)],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def run(graph: ModelProto, images: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"images": images})[0]


def test_means_axis_by_axis_keep_their_digits() -> None:
    images = np.random.default_rng(0).uniform(0.85, 0.95, (4, 3, 32, 128)).astype(np.float32)
    for axes in ((2, 3), (1, 2, 3), (3,)):
        graph = model(*axes)
        reduce_axis_by_axis(graph.graph)
        assert [node.op_type for node in graph.graph.node] == ["ReduceMean"] * len(axes)
        exact = images.astype(np.float64).mean(axis=axes, keepdims=True)
        actual = run(graph, images)
        assert actual.shape == exact.shape
        np.testing.assert_allclose(actual, exact, rtol=4e-7)


def test_equal_weights_are_kept_once() -> None:
    def weight(name: str, *values: float) -> TensorProto:
        return helper.make_tensor(name, TensorProto.FLOAT, [len(values)], values)

    outer = helper.make_graph([], "outer", [], [], [weight("a", 1, 2)])
    body = helper.make_graph(
        [helper.make_node("Add", ["same", "other"], ["sum"])],
        "body",
        [],
        [],
        [weight("same", 1, 2), weight("other", 1, 3)],
    )
    share_weights(outer, body)
    assert [tensor.name for tensor in outer.initializer] == ["a", "other"]
    assert list(body.node[0].input) == ["a", "other"]
    assert not body.initializer
