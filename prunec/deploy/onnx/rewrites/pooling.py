"""Replace the mean over all pixels by GlobalAveragePool.

    ReduceMean(x; height, width)  =  GlobalAveragePool(x)

ONNX Runtime's convolutions and GlobalAveragePool keep channels in blocks; a ReduceMean needs a copy to plain order.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .edges import constant

IMAGE_RANK, PIXELS = 4, {2, 3}
TYPES = (np.dtype("float32"), np.dtype("float16"))  # of ONNX Runtime's GlobalAveragePool; a ReduceMean takes others too


def name_pooling(graph: gs.Graph) -> None:
    """Replace each such ReduceMean, with a Flatten after it if pixel axes are dropped."""
    for node in [node for node in graph.nodes if node.op == "ReduceMean" and _over_pixels(node)]:
        source, result = node.inputs[0], node.outputs[0]
        node.outputs.clear()
        pooled = result
        if not node.attrs.get("keepdims", 1):
            pooled = gs.Variable(f"{result.name}.pooled", source.dtype)
            graph.nodes.append(gs.Node("Flatten", f"{node.name}.flat", {"axis": 1}, [pooled], [result]))
        graph.nodes.append(gs.Node("GlobalAveragePool", node.name, {}, [source], [pooled]))


def _over_pixels(node: gs.Node) -> bool:
    shape, axes = node.inputs[0].shape, constant(node, 1)
    if shape is None or len(shape) != IMAGE_RANK or node.inputs[0].dtype not in TYPES:
        return False
    given = node.attrs.get("axes", []) if axes is None else axes.tolist()
    return {axis % IMAGE_RANK for axis in given} == PIXELS
