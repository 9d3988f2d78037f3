"""Remove, join or fold into weights each Gather with constant indices.

    Gather(x, 0…n−1) = x
    Gather(Gather(x, i), j) = Gather(x, i[j])
    Gather(Conv(x; W, b), i) = Conv(x; W[i], b[i])

Selections and shuffles of channels leave such nodes, each a copy at run time.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .edges import Array, bypass, constant, only_reader


def fold_gathers(graph: gs.Graph) -> None:
    """Fold every Gather whose indices are a constant vector, until nothing changes."""
    for node in [node for node in graph.nodes if node.op == "Gather"]:
        while _folded(graph, node):  # ends: each round moves it one producer up
            pass


def _folded(graph: gs.Graph, node: gs.Node) -> bool:
    """Fold `node` by one producer; return whether another round may fold more."""
    indices = constant(node, 1)
    if indices is None or indices.ndim != 1:
        return False
    source = node.inputs[0]
    if _takes_all(source, _axis(node), indices):
        bypass(graph, node)
        return False
    producer = source.inputs[0] if source.inputs else None
    if producer is None or not only_reader(graph, source):
        return False
    if producer.op == "Gather" and _axis(producer) == _axis(node):
        return _joined(node, producer, indices)
    if producer.op == "Conv" and _axis(node) == 1 and producer.attrs.get("group", 1) == 1:
        return _into_convolution(graph, node, producer, indices)
    return False


def _joined(node: gs.Node, producer: gs.Node, indices: Array) -> bool:
    """Read the producer's input by its indices at `indices`."""
    before = constant(producer, 1)
    if before is None or before.ndim != 1:
        return False
    node.inputs = [producer.inputs[0], gs.Constant(f"{node.name}.indices", before[indices])]
    producer.inputs.clear()
    producer.outputs.clear()
    return True


def _into_convolution(graph: gs.Graph, node: gs.Node, convolution: gs.Node, indices: Array) -> bool:
    """Reduce the convolution to the chosen output channels, in order."""
    operands = [constant(convolution, position) for position in range(1, len(convolution.inputs))]
    if any(array is None for array in operands):
        return False
    for position, array in enumerate(operands, 1):
        assert array is not None
        name = convolution.inputs[position].name
        convolution.inputs[position] = gs.Constant(f"{name}.gathered", np.ascontiguousarray(array[indices]))
    if convolution.outputs[0].shape is not None:
        convolution.outputs[0].shape = node.outputs[0].shape
    bypass(graph, node)
    return False


def _takes_all(source: gs.Tensor, axis: int, indices: Array) -> bool:
    """Return whether the indices are 0 … n−1 of an axis of known size n."""
    size = source.shape[axis] if source.shape is not None and axis < len(source.shape) else None
    return isinstance(size, int) and np.array_equal(indices, np.arange(size))


def _axis(node: gs.Node) -> int:
    axis, rank = int(node.attrs.get("axis", 0)), len(node.inputs[0].shape or ())
    return axis + rank if axis < 0 else axis
