"""The element type of every value of an ONNX graph, inferred afresh: what a precision is judged by."""

from __future__ import annotations

import onnx
from onnx import AttributeProto, TensorProto

from ...errors import BackendError, SpecError

FLOAT = TensorProto.FLOAT
PRECISIONS = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
BODIES = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # where the multiplications are


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the shapes and types of all values, none of them taken on trust from what was noted before.

    Raises BackendError where they do not fit together.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    try:
        full = onnx.shape_inference.infer_shapes(bare, check_type=True, data_prop=True)
        onnx.checker.check_model(full)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise BackendError(f"the model is not valid ONNX: {str(error).strip().splitlines()[0]}") from error
    return full


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Value name → ONNX's number of its element type, for an inferred model."""
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    found = {value.name: value.type.tensor_type.elem_type for value in values if value.type.HasField("tensor_type")}
    return found | {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own, `relu_3` where it had none."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    taken: set[str] = set()
    for number, node in enumerate(copied.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type.lower()}_{number}"
        taken.add(node.name)
    return copied


def require_single(model: onnx.ModelProto) -> None:
    """Raise BackendError where the model is not of FP32 throughout, or has branches or loops.

    Their bodies read values of the graph around them, which would no longer be of the type that they expect.
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
    """How many layers of `model` compute in `precision`, each seen to do so.

    `kept` are the nodes that stay in FP32, by name. Raises BackendError for any other that gives or takes FP32, and
    where no layer at all is in the precision that was asked for.
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


def number_of(precision: str) -> int:
    """ONNX's number of `fp16` or `bf16`. Raises SpecError for others."""
    if precision not in PRECISIONS:
        raise SpecError(f"precision '{precision}' is not known; choose one of {', '.join(PRECISIONS)}")
    return int(PRECISIONS[precision])
