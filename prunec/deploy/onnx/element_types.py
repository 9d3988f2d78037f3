"""Infer the element type of every value of an ONNX graph."""

from __future__ import annotations

import onnx
from onnx import AttributeProto, TensorProto

from ...errors import BackendError, SpecError, first_line

FLOAT = TensorProto.FLOAT
PRECISIONS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
BODIES = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with freshly inferred shapes and types. Raises BackendError on contradiction."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    return checked(bare)


def checked(model: onnx.ModelProto, what: str = "the model") -> onnx.ModelProto:
    """Return a copy with all shapes and types, after ONNX's checker. Raises BackendError on contradiction."""
    try:
        full = onnx.shape_inference.infer_shapes(model, check_type=True, data_prop=True)
        onnx.checker.check_model(full)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise BackendError(f"{what} is not valid ONNX: {first_line(error)}") from error
    return full


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return ONNX's element type number by value name, for an inferred model."""
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    found = {value.name: value.type.tensor_type.elem_type for value in values if value.type.HasField("tensor_type")}
    return found | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with unique node names, `relu_3` for an unnamed node."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    taken: set[str] = set()
    for number, node in enumerate(copied.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type.lower()}_{number}"
        taken.add(node.name)
    return copied


def require_single(model: onnx.ModelProto) -> None:
    """Raise BackendError unless the model is FP32 throughout, without branches or loops. Their bodies read outer
    values.
    """
    inner = [node for node in model.graph.node if any(entry.type in BODIES for entry in node.attribute)]
    if inner:
        raise BackendError(
            f"node '{inner[0].name}' is a {inner[0].op_type}, which prunec does not cast; export without"
        )
    kinds = set(element_types(inferred(model)).values())
    halves = [TensorProto.DataType.Name(kind) for kind in PRECISIONS.values() if kind in kinds]
    if halves or FLOAT not in kinds:
        raise BackendError(f"the model is of {(halves or ['no float'])[0]} already; take the FP32 model it came from")


def require(model: onnx.ModelProto, precision: str, kept: dict[str, str]) -> int:
    """Return the number of layers that compute in `precision`, after checking each.

    `kept` are nodes kept in FP32, by name. Raises BackendError if another node reads or makes FP32, or if no layer is
    in that precision.
    """
    wanted, types = number_of(precision), element_types(inferred(model))
    layers = 0
    for node in model.graph.node:
        if node.op_type == "Cast" or node.name in kept:
            continue
        layer = node.op_type in LAYERS
        left = [name for name in (*node.output, *(node.input if layer else ())) if types.get(name) == FLOAT]
        if left:
            raise BackendError(f"{precision} did not happen: '{left[0]}' of node '{node.name}' is still FP32")
        layers += layer and types.get(node.output[0]) == wanted
    if not layers:
        reason = next((f" ('{name}': {why})" for name, why in kept.items()), "")
        raise BackendError(f"no layer could be cast to {precision}{reason}; keep the model in FP32, or rescale it")
    return layers


def operator_set(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators in a model."""
    return next(int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def number_of(precision: str) -> int:
    """Return ONNX's number of `fp16` or `bf16`. Raises SpecError for others."""
    if precision not in PRECISIONS:
        raise SpecError(f"precision '{precision}' is not known; choose one of {', '.join(PRECISIONS)}")
    return int(PRECISIONS[precision])
