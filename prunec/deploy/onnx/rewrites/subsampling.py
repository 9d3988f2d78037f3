"""Replace a subsampling, zero-padded shortcut (option A, He 2016) by one convolution.

    Pad(Slice(x; ::s, ::t); before, after)  =  Conv(x; W, strides s, t)        W[o, i] = 1 where o is i's place, else 0

Equal for all finite x. ONNX Runtime's convolutions keep channels in blocks, and Slice and Pad need plain tensors, so
the layout changes before and after them.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .edges import Array, constant, only_reader

MOST = 64  # channels read
CHANNELS, IMAGE_RANK = 1, 4
ZERO = -1  # source of a channel of zeros


def join_subsampling(graph: gs.Graph) -> None:
    """Replace each chain of Slice, Pad and Gather by a strided 1×1 convolution."""
    for node in [node for node in graph.nodes if node.op in STEPS and node.inputs and node.outputs]:
        chain = _chain(graph, node)
        if chain:
            _write(graph, chain)


def _chain(graph: gs.Graph, last: gs.Node) -> list[gs.Node]:
    """Return the nodes of the chain that ends at `last`, in order; empty if longer."""
    readers = last.outputs[0].outputs
    if only_reader(graph, last.outputs[0]) and readers[0].op in STEPS:
        return []
    chain: list[gs.Node] = []
    node: gs.Node | None = last
    while node is not None and node.op in STEPS:  # ends: a graph has no circle
        chain.insert(0, node)
        source = node.inputs[0]
        node = source.inputs[0] if source.inputs and only_reader(graph, source) else None
    return chain


def _write(graph: gs.Graph, chain: list[gs.Node]) -> None:
    """Replace the chain by one convolution, if equivalent."""
    source, result = chain[0].inputs[0], chain[-1].outputs[0]
    shape = source.shape
    if shape is None or len(shape) != IMAGE_RANK or source.dtype != np.float32 or not isinstance(shape[CHANNELS], int):
        return
    places, strides = np.arange(shape[CHANNELS]), (1, 1)
    if len(places) > MOST:
        return
    for node in chain:
        step = STEPS[node.op](node, places, strides)
        if step is None:
            return
        places, strides = step
    if strides == (1, 1) or np.array_equal(places, np.arange(shape[CHANNELS])):
        return
    weight = (places[:, None] == np.arange(shape[CHANNELS])).astype(np.float32)[:, :, None, None]
    operands = [source, gs.Constant(f"{result.name}.places", weight)]
    chain[-1].outputs.clear()
    attributes = {"kernel_shape": [1, 1], "strides": list(strides)}
    graph.nodes.append(gs.Node("Conv", chain[-1].name, attributes, operands, [result]))


Step = tuple[Array, tuple[int, int]]  # source of every channel, and the strides in pixels


def _sliced(node: gs.Node, places: Array, strides: tuple[int, int]) -> Step | None:
    """Apply a Slice from the first pixel to the last, or of any channels."""
    given = [constant(node, position) for position in range(1, 5)]
    if any(one is None for one in given):
        return None
    steps = list(strides)
    for start, end, axis, step in zip(*(one.tolist() for one in given if one is not None), strict=True):
        if axis == CHANNELS:
            places = places[start:end:step]
        elif axis > CHANNELS and start == 0 and step > 0 and _to_the_end(node, axis, end):
            steps[axis - 2] *= step
        else:
            return None
    return places, (steps[0], steps[1])


def _to_the_end(node: gs.Node, axis: int, end: int) -> bool:
    size = node.inputs[0].shape[axis] if node.inputs[0].shape is not None else None
    return end >= (size if isinstance(size, int) else np.iinfo(np.int32).max)


def _padded(node: gs.Node, places: Array, strides: tuple[int, int]) -> Step | None:
    """Apply a Pad of zero channels before and after."""
    pads, value = constant(node, 1), constant(node, 2)
    zero = len(node.inputs) < 3 or node.inputs[2].is_empty() or (value is not None and not value.any())
    if pads is None or not zero or node.attrs.get("mode", "constant") != "constant" or len(node.inputs) > 3:
        return None
    before, after = int(pads[CHANNELS]), int(pads[IMAGE_RANK + CHANNELS])
    others = np.delete(pads, (CHANNELS, IMAGE_RANK + CHANNELS)) if len(pads) == 2 * IMAGE_RANK else np.ones(1)
    if others.any() or min(before, after) < 0:
        return None
    return np.pad(places, (before, after), constant_values=ZERO), strides


def _gathered(node: gs.Node, places: Array, strides: tuple[int, int]) -> Step | None:
    """Apply a Gather of channels."""
    indices = constant(node, 1)
    if indices is None or indices.ndim != 1 or node.attrs.get("axis", 0) != CHANNELS:
        return None
    return places[indices], strides


STEPS = {"Slice": _sliced, "Pad": _padded, "Gather": _gathered}
