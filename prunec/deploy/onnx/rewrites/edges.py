"""Rewiring that every rewrite needs: who reads a value, and who writes it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

Array = np.ndarray[Any, np.dtype[Any]]


def replace(old: gs.Tensor, new: gs.Tensor) -> None:
    """Every reader of `old` reads `new`."""
    for reader in list(old.outputs):
        reader.inputs = [new if tensor is old else tensor for tensor in reader.inputs]


def bypass(graph: gs.Graph, node: gs.Node) -> None:
    """Let the readers of `node`'s first output read its first input.

    What leads from an input or a constant to an output of the graph must stay.
    """
    outputs = {id(tensor) for tensor in graph.outputs}
    source, copy = node.inputs[0], node.outputs[0]
    if id(copy) not in outputs:
        replace(copy, source)
    elif source.inputs and id(source) not in outputs:
        _take_over(source, copy)


def only_reader(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    """Return whether a single node reads `tensor`, once, and `tensor` is no output of the graph."""
    return len(tensor.outputs) == 1 and not any(tensor is output for output in graph.outputs)


def constant(node: gs.Node, position: int) -> Array | None:
    """The constant that `node` reads there; None where it is computed or left out."""
    given = node.inputs[position] if position < len(node.inputs) else None
    return np.asarray(given.values) if isinstance(given, gs.Constant) else None


def _take_over(source: gs.Tensor, output: gs.Tensor) -> None:
    """The producer of `source` writes the graph's `output` itself."""
    producer = source.inputs[0]
    output.inputs.clear()
    producer.outputs = [output if tensor is source else tensor for tensor in producer.outputs]
    replace(source, output)
