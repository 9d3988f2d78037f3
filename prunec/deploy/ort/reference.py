"""Compute a low-precision file as written, not as ONNX Runtime's CPU kernels do.

    FP16, BF16:  y = round(f(x))      every value rounded where the file says so, sums inside an operator in FP32
    INT8, FP8:   y = f(DQ(Q(x)))      in floating point, Q and DQ by definition

By default ONNX Runtime runs an FP16 graph on the CPU in FP32 without rounding or overflow; it has no BF16 layers; and
it fuses INT8 layers into kernels that round otherwise than TensorRT's. Tensor Cores also multiply in half and add in
FP32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from ...data.images import Images
from ...errors import NumericsError
from ..onnx import onnx_file
from ..onnx.element_types import FLOAT, element_types, inferred
from ..precision import qdq
from . import parity, runtime

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

COMPARED = 32  # images
HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
EXACT = {  # they do not change rounded values
    "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Relu", "Reshape", "Slice",
    "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip


def session(model: onnx.ModelProto | Path) -> InferenceSession:
    """Open `model` to run as written. Raises BackendError as `onnx_file.load` and `runtime.session`."""
    loaded = onnx_file.load(model) if isinstance(model, Path) else model
    return runtime.session(widened(loaded), integers=not qdq.is_quantised(loaded))


def compare(model: onnx.ModelProto, lower: onnx.ModelProto, images: Images, what: str, least: float) -> parity.Parity:
    """Compare `lower` with `model` on the first images.

    Batches are 1, 2 and `COMPARED`, or the only one. Raises NumericsError if the cosine of the outputs is below
    `least`; `what` names the precision.
    """
    only = onnx_file.only_batch(model)
    few = tuple(value[: max(COMPARED, only or 1)] for value in images.inputs)
    found = parity.compare(session(model), session(lower), few, None if only is None else (only,))
    worst = min(found.agreements, key=lambda one: one.cosine)
    if worst.cosine < least:
        raise NumericsError(
            f"in {what} the network computes something else, {worst}: leave more alone (--keep PATTERN)"
        )
    return found


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` in FP32, its half-precision values rounded; itself without any."""
    types = element_types(inferred(model))
    if not any(kind in HALVES for kind in types.values()):
        return model
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.node[:], wide.graph.value_info[:]
    renamed = {entry.name: f"{entry.name}.wide" for entry in model.graph.input if types[entry.name] in HALVES}
    for name, copy in renamed.items():
        wide.graph.node.append(helper.make_node("Cast", [name], [copy], to=FLOAT))
    for node in model.graph.node:
        wide.graph.node.extend(_wide(node, types, renamed))
    for tensor in wide.graph.initializer:
        _widen(tensor)
    for entry in wide.graph.output:
        if entry.type.tensor_type.elem_type in HALVES:
            entry.type.tensor_type.elem_type = FLOAT
    return wide


def _wide(node: NodeProto, types: Mapping[str, int], renamed: Mapping[str, str]) -> Iterator[NodeProto]:
    """Yield `node` in FP32, and casts that round its half-precision outputs."""
    copied = NodeProto()
    copied.CopyFrom(node)
    copied.input[:] = [renamed.get(name, name) for name in node.input]
    for attribute in copied.attribute:
        _widen_attribute(attribute)
    low = [name for name in node.output if types.get(name) in HALVES and node.op_type not in EXACT]
    copied.output[:] = [f"{name}.wide" if name in low else name for name in node.output]
    yield copied
    for name in low:
        yield helper.make_node("Cast", [f"{name}.wide"], [f"{name}.low"], to=types[name])
        yield helper.make_node("Cast", [f"{name}.low"], [name], to=FLOAT)


def _widen_attribute(attribute: AttributeProto) -> None:
    """Widen a constant attribute, or the target type of a Cast."""
    if attribute.name in ("to", "dtype") and attribute.i in HALVES:
        attribute.i = FLOAT
    if attribute.HasField("t"):
        _widen(attribute.t)


def _widen(tensor: TensorProto) -> None:
    """Convert a half-precision tensor to FP32 in place."""
    if tensor.data_type in HALVES:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
