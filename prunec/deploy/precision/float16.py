"""Cast FP32 to FP16 by ONNX Runtime's converter (1.31.1), and repair its result.

Between two neighbours kept in FP32 it inserts a Cast to FP16 and one back, which makes large values infinite: such
pairs are removed. A value that two kept nodes read is cast twice under one name, which is invalid: the second Cast is
removed.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto

from ..onnx.clean import TIDY, clean
from ..onnx.element_types import inferred
from ..ort import runtime


def convert(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Cast `model` to FP16; keep its interface and the nodes `kept`, by name, in FP32."""
    runtime.require()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    converted = convert_float_to_float16(copied, keep_io_types=True, node_block_list=sorted(kept))
    _drop_repeated(converted)
    sorted_ = clean(converted, TIDY[-1:])
    return inferred(clean(inferred(sorted_), (drop_round_trips, *TIDY)))


def without_half(model: onnx.ModelProto) -> dict[str, str]:
    """Return the nodes, by name, that the converter always leaves in FP32, with the reason."""
    runtime.require()
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

    reason = "ONNX Runtime's converter leaves {} in FP32"
    return {
        node.name: reason.format(node.op_type) for node in model.graph.node if node.op_type in DEFAULT_OP_BLOCK_LIST
    }


def drop_round_trips(graph: gs.Graph) -> None:
    """Remove FP32 → FP16 → FP32 casts."""
    for node in [node for node in graph.nodes if _casts(node, TensorProto.FLOAT)]:
        before = node.inputs[0].inputs[0] if node.inputs[0].inputs else None
        if before is not None and _casts(before, TensorProto.FLOAT16):
            node.inputs = [before.inputs[0]]


def _drop_repeated(model: onnx.ModelProto) -> None:
    """Keep the first of the nodes that write one value."""
    written = {node.output[0]: node for node in reversed(model.graph.node)}
    once = [node for node in model.graph.node if written[node.output[0]] is node]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in once]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _casts(node: gs.Node, to: int) -> bool:
    return bool(node.op == "Cast" and node.attrs["to"] == to)
