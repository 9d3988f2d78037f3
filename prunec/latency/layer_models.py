"""Build an ONNX model of one layer at many widths, one node a width.

One run times all widths. Nodes that read the same number of channels share an input. Weights are noise: their values do
not change the time.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .layer_shapes import CLIP, LINEAR, RELU, TRANSPOSED, LayerShape

OPSET, IR = 18, 8
BEFORE = ".before"  # suffix of a layer whose activation is a node of its own
LIMITS = {"least": 0.0, "most": 6.0}
Widths = Iterable[tuple[int, int]]


def name_of(into: int, out: int) -> str:
    """Return the name of the node with these widths."""
    return f"i{into}o{out}"


def model_of(shape: LayerShape, widths: Widths, batch: int) -> onnx.ModelProto:
    """Build a node for each pair of `widths`, (channels read, channels made)."""
    generator = np.random.default_rng(0)
    pairs = sorted(set(widths))
    nodes, weights, outputs = [], [], []
    for into, out in pairs:
        name = name_of(into, out)
        sizes = _weight_sizes(shape, into, out)
        values = {f"{name}.weight": sizes, f"{name}.bias": (out,)}
        for key, dims in values.items():
            weights.append(numpy_helper.from_array(generator.standard_normal(dims).astype(np.float32), key))
        nodes += _nodes(shape, into, out, name)
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *[None] * (len(shape.size) + 1)]))
    if shape.after == CLIP:
        weights += [numpy_helper.from_array(np.array(one, dtype=np.float32), key) for key, one in LIMITS.items()]
    reads = sorted({into for into, _ in pairs})
    inputs = [helper.make_tensor_value_info(f"x{one}", TensorProto.FLOAT, _input(shape, one, batch)) for one in reads]
    graph = helper.make_graph(nodes, "layer", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


def _input(shape: LayerShape, into: int, batch: int) -> list[int]:
    return [batch, *shape.size, into] if shape.op == LINEAR else [batch, into, *shape.size]


def _weight_sizes(shape: LayerShape, into: int, out: int) -> tuple[int, ...]:
    if shape.op == LINEAR:
        return (into, out) if shape.size else (out, into)
    if shape.group:
        return (into if shape.op == TRANSPOSED else out, shape.group[shape.op == TRANSPOSED], *shape.kernel)
    sides = (into, out // shape.groups) if shape.op == TRANSPOSED else (out, into // shape.groups)
    return (*sides, *shape.kernel)


def _nodes(shape: LayerShape, into: int, out: int, name: str) -> list[onnx.NodeProto]:
    if not shape.after:
        return [_node(shape, into, out, name, name)]
    before = f"{name}{BEFORE}"
    behind = {RELU: ("Relu", [before]), CLIP: ("Clip", [before, "least", "most"])}[shape.after]
    return [_node(shape, into, out, name, before), helper.make_node(*behind, [name], name)]


def _node(shape: LayerShape, into: int, out: int, name: str, result: str) -> onnx.NodeProto:
    given, weight, bias = f"x{into}", f"{name}.weight", f"{name}.bias"
    if shape.op == LINEAR and shape.size:
        return helper.make_node("MatMul", [given, weight], [result], result)
    if shape.op == LINEAR:
        return helper.make_node("Gemm", [given, weight, bias], [result], result, transB=1)
    return helper.make_node(
        "ConvTranspose" if shape.op == TRANSPOSED else "Conv", [given, weight, bias], [result], result,
        kernel_shape=shape.kernel, strides=shape.stride, pads=[*shape.padding, *shape.padding],
        dilations=shape.dilation, group=into // shape.group[0] if shape.group else shape.groups,
    )  # fmt: skip
