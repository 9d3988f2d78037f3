"""Check the Q and DQ nodes of an ONNX graph against TensorRT's rules.

A quantised layer reads QuantizeLinear → DequantizeLinear, and DequantizeLinear of an INT8 or FP8 weight. TensorRT needs
symmetric scales (all zero points zero, NVIDIA/TensorRT issues 2774 and 4698), no INT32 bias (onnxruntime issue 14229:
`input has type Int32 but must have type FP8, FP4, Int4, Int8, or UInt8`), constant scales, and one scale a tensor, or
one an output channel of a weight. Convolutions under 16 channels are slower in INT8 than in FP16, because their tiles
are padded (the rule of NVIDIA ModelOpt's quantiser).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

from ..onnx.element_types import LAYERS, operator_set

LEAST_CHANNELS = 16  # read and made by a quantised layer, per group
DEPTHWISE_MULTIPLE, DEPTHWISE_KERNEL = 8, 3
LOW = {
    TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E5M2,
}  # fmt: skip
FLOAT8 = {TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2}
FLOAT8_OPSET = HALF_SCALE_OPSET = 19
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Finding:
    """Breach of a rule at one node; `fatal` if TensorRT's parser refuses the file."""

    rule: str
    node: str
    text: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.node}: {self.text}"


def findings(model: onnx.ModelProto) -> tuple[Finding, ...]:
    """Return every breach of the rules, in node order."""
    graph = _Graph(model)
    return tuple(finding for node in model.graph.node for finding in _at(graph, node))


def too_narrow(node: NodeProto, weight: tuple[int, ...]) -> str | None:
    """Return why quantising the layer `node` would not pay; None if it would.

    `weight` is [out, in/group, …] of a Conv, [in, out/group, …] of a ConvTranspose, a matrix else.
    """
    first, second = weight[0], weight[1] if len(weight) > 1 else 1
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    if node.op_type == "Conv" and groups > 1 and second == 1 and first == groups:
        return _narrow_depthwise(first, weight[2:])
    least = min(first // groups, second) if node.op_type in ("Conv", "ConvTranspose") else min(weight[-2:])
    return f"{least} channels a group, under {LEAST_CHANNELS}" if least < LEAST_CHANNELS else None


def is_quantised(model: onnx.ModelProto) -> bool:
    """Return whether any value is quantised or dequantised."""
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)


def quantised_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of layers that read both operands from a DequantizeLinear."""
    graph = _Graph(model)
    layers = (node for node in model.graph.node if node.op_type in LAYERS)
    return tuple(node.name for node in layers if all(graph.dequantiser(name) is not None for name in node.input[:2]))


class _Graph:
    """Look-ups by value name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.opset = operator_set(model)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.constants |= {
            node.output[0]: node.attribute[0].t
            for node in model.graph.node
            if node.op_type == "Constant" and node.attribute[0].name == "value"
        }
        self.producers = {name: node for node in model.graph.node for name in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def array(self, name: str) -> Array | None:
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def dequantiser(self, name: str) -> NodeProto | None:
        producer = self.producers.get(name)
        return producer if producer is not None and producer.op_type == "DequantizeLinear" else None


def _at(graph: _Graph, node: NodeProto) -> Iterator[Finding]:
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        yield from _types(graph, node)
        yield from _scale(graph, node)
        yield from _zero_point(graph, node)
    if node.op_type == "QuantizeLinear":
        yield from _pair(graph, node)
    if node.op_type in LAYERS:
        yield from _layer(graph, node)


def _types(graph: _Graph, node: NodeProto) -> Iterator[Finding]:
    """Yield findings for INT32, and for FP8 in an older operator set."""
    stored = graph.constants.get(node.input[0])
    zero = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    found = stored.data_type if stored is not None and node.op_type == "DequantizeLinear" else None
    low = found or (zero.data_type if zero is not None else None)
    if low is not None and low not in LOW:
        what = TensorProto.DataType.Name(low)
        yield Finding("type", node.name, f"holds {what}, which TensorRT refuses; leave the bias in floating point")
    if low in FLOAT8 and graph.opset < FLOAT8_OPSET:
        yield Finding("opset", node.name, f"FP8 needs opset {FLOAT8_OPSET}, and the model is of {graph.opset}")


def _scale(graph: _Graph, node: NodeProto) -> Iterator[Finding]:
    """Yield a finding unless scales are constant, positive, finite and of the right axis."""
    scale = graph.array(node.input[1])
    if scale is None:
        yield Finding("scale", node.name, "its scale is computed, not constant; quantise statically")
        return
    if scale.dtype == np.float16 and graph.opset < HALF_SCALE_OPSET:
        yield Finding("opset", node.name, f"FP16 scales need opset {HALF_SCALE_OPSET}, the model is of {graph.opset}")
    values = scale.astype(np.float64)
    if not (np.isfinite(values).all() and (values > 0).all()):
        yield Finding("scale", node.name, "a scale is not positive and finite; calibrate on other images")
    if node.op_type == "QuantizeLinear" and values.size > 1 and node.input[0] not in graph.constants:
        yield Finding("axis", node.name, "an activation has a scale a channel; TensorRT wants one for the tensor")


def _zero_point(graph: _Graph, node: NodeProto) -> Iterator[Finding]:
    """Yield a finding unless all zero points are 0."""
    zero = graph.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if zero is not None and np.any(zero.astype(np.float32) != 0):
        yield Finding("zero-point", node.name, "its zero point is not 0; quantise symmetrically")


def _pair(graph: _Graph, node: NodeProto) -> Iterator[Finding]:
    """Yield a finding if another operator than DequantizeLinear reads a quantised value."""
    strangers = [one for one in graph.readers.get(node.output[0], []) if one.op_type != "DequantizeLinear"]
    if strangers:
        yield Finding("pair", node.name, f"{strangers[0].op_type} reads the integers; put a DequantizeLinear between")


def _layer(graph: _Graph, node: NodeProto) -> Iterator[Finding]:
    """Yield findings for half-quantised layers, wrong weight axes and narrow layers."""
    data, weight = graph.dequantiser(node.input[0]), graph.dequantiser(node.input[1])
    if data is None and weight is None:
        return
    if data is None or weight is None:
        missing = "input" if data is None else "weight"
        text = f"its {missing} is not quantised and the other operand is, so it runs in floating point"
        yield Finding("half-quantised", node.name, text, fatal=False)
        return
    stored = graph.constants.get(weight.input[0]) or graph.constants.get(_before(graph, weight))
    if stored is None:
        return
    yield from _axis(graph, node, weight, len(stored.dims))
    reason = too_narrow(node, tuple(stored.dims))
    if reason:
        yield Finding("narrow", node.name, f"is quantised with {reason}; leave it in FP16", fatal=False)


def _axis(graph: _Graph, node: NodeProto, weight: NodeProto, rank: int) -> Iterator[Finding]:
    """Yield a finding unless a weight's scales are along its output channels."""
    scale = graph.array(weight.input[1])
    if scale is None or scale.size <= 1:
        return
    axis = next((attribute.i for attribute in weight.attribute if attribute.name == "axis"), 1) % rank
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    wanted = 0 if node.op_type == "Conv" or transposed else rank - 1 if node.op_type in ("Gemm", "MatMul") else 1
    if axis != wanted:
        yield Finding(
            "axis", weight.name, f"its scales go along axis {axis} of the weight of {node.name}, not {wanted}"
        )


def _before(graph: _Graph, dequantise: NodeProto) -> str:
    """Return the name of the value that Q quantised; '' without a Q."""
    producer = graph.producers.get(dequantise.input[0])
    return producer.input[0] if producer is not None and producer.op_type == "QuantizeLinear" else ""


def _narrow_depthwise(channels: int, kernel: tuple[int, ...]) -> str | None:
    if channels % DEPTHWISE_MULTIPLE:
        return f"{channels} depthwise channels, not a multiple of {DEPTHWISE_MULTIPLE}"
    if kernel and min(kernel) < DEPTHWISE_KERNEL:
        return f"a depthwise kernel under {DEPTHWISE_KERNEL}"
    return None
