"""Remove nodes that return their input unchanged.

Identity, Dropout, Cast to the same type, Concat of one, Transpose in order.
"""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs

from .edges import bypass


def remove_identities(graph: gs.Graph) -> None:
    """Bypass such nodes; one from an input or a constant to an output is kept."""
    for node in [node for node in graph.nodes if _hands_on(node)]:
        bypass(graph, node)


def _hands_on(node: gs.Node) -> bool:
    """Return whether the first output of `node` is always its first input."""
    if node.op == "Dropout":
        return len(node.inputs) < 3 and not any(mask.outputs for mask in node.outputs[1:])
    if node.op == "Cast":
        return node.inputs[0].dtype is not None and _type(node.inputs[0].dtype) == node.attrs.get("to")
    if node.op == "Transpose":
        permutation = node.attrs.get("perm")
        return permutation is not None and list(permutation) == sorted(permutation)
    return node.op == "Identity" or (node.op == "Concat" and len(node.inputs) == 1)


def _type(dtype: object) -> int:
    """Return ONNX's number of a type that onnx-graphsurgeon gives as either."""
    return dtype if isinstance(dtype, int) else int(onnx.helper.np_dtype_to_tensor_dtype(dtype))
