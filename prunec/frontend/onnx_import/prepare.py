"""Turn an ONNX model into plain nodes and constants: one operator set, folded, with linear layers put together.

Operator sets below 18 are converted by onnx's version converter, constants are folded by onnxscript's optimiser.
`MatMul` and `Gemm` with a constant matrix become `Linear`, with the bias that is added to them.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import version_converter

from ...errors import CaptureError, one_line
from . import operators
from .node import OPERATORS, Node

LOWEST = 18  # operator set that the operators are written for; later forms are read as they are
STANDARD = ("", "ai.onnx")
FOLDED = 2**26  # entries of a constant that is folded
Array = np.ndarray[Any, Any]
assert operators.FAMILIES  # importing them registers every operator
ADVICE = {
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), "give the network as it was before quantization"),
    "NonMaxSuppression": "cut the file before its decoder (onnx.utils.extract_model), and join it again afterwards",
}


@dataclass(frozen=True)
class Prepared:
    """Nodes in order, constants by name, and the model that they are from."""

    model: onnx.ModelProto
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]


def prepare(model: onnx.ModelProto) -> Prepared:
    """Read a model. Raises CaptureError for an operator that is not imported, with the name of its node."""
    model = folded(converted(model))
    constants = {one.name: _array(one) for one in model.graph.initializer}
    nodes = []
    opset = operator_set(model)
    for proto in model.graph.node:
        node = _node(proto, opset)
        if node.kind == "Constant":
            constants[node.outputs[0]] = _full(_constant(node))
        else:
            _require_known(node, proto.domain)
            nodes.append(node)
    outputs = {one.name for one in model.graph.output}
    return Prepared(model, *_with_layers(tuple(nodes), constants, outputs))


def operator_set(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators."""
    return max((one.version for one in model.opset_import if one.domain in STANDARD), default=1)


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in operator set 18 at least. Raises CaptureError where onnx cannot convert it."""
    if operator_set(model) >= LOWEST:
        return model
    try:
        return version_converter.convert_version(model, LOWEST)
    except Exception as error:
        raise CaptureError(
            f"onnx cannot convert the model from operator set {operator_set(model)} to {LOWEST}: {one_line(error)};"
            f" export it again with opset {LOWEST}"
        ) from error


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with functions inlined and constants folded; unchanged where the optimiser fails."""
    from onnxscript import optimizer

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = optimizer.optimize(model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    except Exception:  # a help, not a need: what it leaves is imported or refused node by node
        return model
    assert isinstance(found, onnx.ModelProto)
    return found


def _node(proto: onnx.NodeProto, opset: int) -> Node:
    attributes = {one.name: _attribute(one) for one in proto.attribute}
    return Node(proto.op_type, proto.name, tuple(proto.input), tuple(proto.output), attributes, opset)


def _attribute(proto: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return list(value) if proto.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value


def _require_known(node: Node, domain: str) -> None:
    if domain in STANDARD and node.kind in OPERATORS:
        return
    kind = node.kind if domain in STANDARD else f"{domain}.{node.kind}"
    advice = ADVICE.get(node.kind, "write this part of the network in other operators, or compress the PyTorch network")
    name = node.name or node.outputs[0]
    raise CaptureError(f"the ONNX operator {kind} of node '{name}' cannot be imported: {advice}")


def _array(proto: onnx.TensorProto) -> Array:
    return _full(onnx.numpy_helper.to_array(proto))


def _full(array: Array) -> Array:
    """Return half precision as float32."""
    return array.astype(np.float32) if array.dtype.name in ("float16", "bfloat16") else array


def _constant(node: Node) -> Array:
    for name, kind in (("value", None), ("value_float", np.float32), ("value_floats", np.float32)):
        if name in node.attributes:
            return np.asarray(node.get(name), kind)
    for name in ("value_int", "value_ints"):
        if name in node.attributes:
            return np.asarray(node.get(name), np.int64)
    raise node.refuse("it holds text or a sparse tensor")


def _with_layers(
    nodes: tuple[Node, ...], constants: dict[str, Array], outputs: set[str]
) -> tuple[tuple[Node, ...], Mapping[str, Array]]:
    """Return nodes with `Linear` in the place of product and bias."""
    uses = Counter(name for node in nodes for name in node.inputs)
    uses.update(outputs)
    layers = [_linear(node, constants) for node in nodes]
    made = {node.outputs[0]: place for place, node in enumerate(layers) if node.kind == "Linear"}
    dropped: set[int] = set()
    for place, node in enumerate(layers):
        for product, bias in _added(node):
            at = made.get(product)
            if at is None or uses[product] != 1 or not _is_bias(layers[at], constants, bias):
                continue
            layers[place] = replace(layers[at], inputs=(*layers[at].inputs, bias), outputs=node.outputs)
            dropped.add(at)
            break
    return tuple(node for place, node in enumerate(layers) if place not in dropped), constants


def _added(node: Node) -> Iterator[tuple[str, str]]:
    if node.kind == "Add":
        yield from ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0]))


def _is_bias(layer: Node, constants: Mapping[str, Array], name: str) -> bool:
    wanted = constants[layer.inputs[1]].shape[:1]
    return len(layer.inputs) == 2 and name in constants and constants[name].shape == wanted


def _linear(node: Node, constants: dict[str, Array]) -> Node:
    """Return a product with a constant matrix [in, out] as `Linear`."""
    if node.kind not in ("MatMul", "Gemm"):
        return node
    weight = constants.get(node.inputs[1])
    if weight is None or weight.ndim != 2 or weight.dtype.kind != "f":
        return node
    inputs = list(node.inputs)
    if node.kind == "Gemm":
        plain = node.get("alpha", 1.0) == 1 and node.get("beta", 1.0) == 1 and not node.get("transA", 0)
        bias = constants.get(inputs[2]) if len(inputs) > 2 and inputs[2] else None
        width = weight.shape[0 if node.get("transB", 0) else 1]
        if not plain or (len(inputs) > 2 and inputs[2] and (bias is None or bias.shape != (width,))):
            return node
    if not node.get("transB", 0):
        inputs[1] = f"{inputs[1]}.T"
        constants.setdefault(inputs[1], np.ascontiguousarray(weight.T))
    return replace(node, kind="Linear", inputs=tuple(inputs), attributes={})
