"""Rewire readers and producers of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

Array = np.ndarray[Any, np.dtype[Any]]


def replace(old: gs.Tensor, new: gs.Tensor) -> None:
    """Make every reader of `old` read `new`."""
    for reader in list(old.outputs):
        reader.inputs = [new if tensor is old else tensor for tensor in reader.inputs]


def bypass(graph: gs.Graph, node: gs.Node) -> None:
    """Make the readers of `node` read its input; paths from input to output are kept."""
    outputs = {id(tensor) for tensor in graph.outputs}
    source, copy = node.inputs[0], node.outputs[0]
    if id(copy) not in outputs:
        replace(copy, source)
    elif source.inputs and id(source) not in outputs:
        _take_over(source, copy)


def only_reader(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    """Return whether one node reads `tensor`, once, and `tensor` is no graph output."""
    return len(tensor.outputs) == 1 and not any(tensor is output for output in graph.outputs)


def constant(node: gs.Node, position: int) -> Array | None:
    """Return the constant input at `position`; None if computed or absent."""
    given = node.inputs[position] if position < len(node.inputs) else None
    return np.asarray(given.values) if isinstance(given, gs.Constant) else None


def _take_over(source: gs.Tensor, output: gs.Tensor) -> None:
    """Make the producer of `source` write the graph's `output` itself."""
    producer = source.inputs[0]
    output.inputs.clear()
    producer.outputs = [output if tensor is source else tensor for tensor in producer.outputs]
    replace(source, output)
