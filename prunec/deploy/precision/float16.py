"""FP32 → FP16 by ONNX Runtime's own converter, and two repairs of what it does around the nodes that stay (1.31.1).

Two neighbours that are both kept in FP32 get an FP16 value between them all the same, and what exceeded FP16 is
infinity there: Cast to FP16, Cast back. Each such pair is taken out again. And a value that two of them read is cast
twice under one name, which is no valid graph: the second Cast goes.
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
    """`model` in FP16, its inputs and outputs in FP32, and the nodes `kept`, by name, too."""
    runtime.require()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    converted = convert_float_to_float16(copied, keep_io_types=True, node_block_list=sorted(kept))
    _drop_repeated(converted)
    sorted_ = clean(converted, TIDY[-1:])
    return inferred(clean(inferred(sorted_), (drop_round_trips, *TIDY)))


def without_half(model: onnx.ModelProto) -> dict[str, str]:
    """The nodes, by name, that the converter leaves in FP32 whatever one asks, and why."""
    runtime.require()
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

    reason = "ONNX Runtime's converter leaves {} in FP32"
    return {
        node.name: reason.format(node.op_type) for node in model.graph.node if node.op_type in DEFAULT_OP_BLOCK_LIST
    }


def drop_round_trips(graph: gs.Graph) -> None:
    """FP32 → FP16 → FP32 hands on what it was given, unrounded."""
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
