"""Convert INT8 Q and DQ to FP8 (E4M3), with equal ranges.

    s₈ = max|x| / 448 = s · 127 / 448

448 is the largest FP8 number, so the largest value seen is representable. ONNX Runtime's own FP8 quantiser sets the
scale by the standard deviation instead, and clips the rest. Weights are rounded from FP32, never from INT8.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...errors import BackendError
from ..onnx.element_types import operator_set
from ..ort.runtime import Array
from .qdq import FLOAT8_OPSET

LARGEST, STEPS = 448.0, 127.0
KIND = TensorProto.FLOAT8E4M3FN


def require_opset(model: onnx.ModelProto) -> None:
    """Raise BackendError if the operator set of `model` has no FP8."""
    found = operator_set(model)
    if found < FLOAT8_OPSET:
        raise BackendError(
            f"the model is of opset {found}, and FP8 needs {FLOAT8_OPSET}: export it with --opset normal, from the .pt2"
            " beside it for instance"
        )


def convert(model: onnx.ModelProto, source: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model`, symmetrically quantised to INT8 from `source`, in FP8."""
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    del converted.graph.value_info[:]
    stored = {tensor.name: tensor for tensor in converted.graph.initializer}
    originals = {tensor.name: numpy_helper.to_array(tensor) for tensor in source.graph.initializer}
    pairs = [node for node in converted.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for name in {node.input[1] for node in pairs}:
        scale = (numpy_helper.to_array(stored[name]) * (STEPS / LARGEST)).astype(np.float32)
        stored[name].CopyFrom(numpy_helper.from_array(scale, name))
    for name in {node.input[2] for node in pairs}:
        zeros = np.zeros(tuple(stored[name].dims), helper.tensor_dtype_to_np_dtype(KIND))
        stored[name].CopyFrom(numpy_helper.from_array(zeros, name))
    for node in pairs:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            weight = originals.get(node.input[0].removesuffix("_quantized"))
            if weight is None:
                raise BackendError(f"the weight behind '{node.name}' cannot be found in FP32; leave it alone (--keep)")
            scale = numpy_helper.to_array(stored[node.input[1]])
            axis = next((int(entry.i) for entry in node.attribute if entry.name == "axis"), 1)
            stored[node.input[0]].CopyFrom(numpy_helper.from_array(_rounded(weight, scale, axis), node.input[0]))
    return converted


def _rounded(weight: Array, scale: Array, axis: int) -> Array:
    """Round `weight / scale` to FP8, to nearest even."""
    shape = [1] * weight.ndim
    if scale.size > 1:
        shape[axis] = scale.size
    exact = np.clip(weight / scale.reshape(shape), -LARGEST, LARGEST)
    found: Array = exact.astype(helper.tensor_dtype_to_np_dtype(KIND))
    return found
