"""Find shapes that are unexpectedly fixed, or that depend on the data.

TensorRT compiles kernels for a range of shapes, and allocates memory, before it sees an input. A batch baked into a
Reshape fails at any other batch; a size computed from the data costs a copy to the CPU and a stop; a branch on a shape
is compiled twice or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import NodeProto, numpy_helper

from ..deploy.onnx.layers import Graph, attribute
from ..ir.graph import reached
from .findings import Finding

RULE = "dynamic-shape"
BRANCHES = ("If", "Loop", "Scan")
COUNTED = ("NonZero", "NonMaxSuppression", "Unique", "Compress", "StringSplit")  # output size depends on the data
SIZED = {  # operator: (input that holds sizes, their name)
    "Reshape": (1, "shape"),
    "Expand": (1, "shape"),
    "ConstantOfShape": (0, "shape"),
    "Tile": (1, "repeats"),
    "TopK": (1, "count"),
    "Resize": (3, "sizes"),
    "Range": (1, "limit"),
    "OneHot": (1, "depth"),
}


def findings(model: onnx.ModelProto) -> Iterator[Finding]:
    """Yield obstacles to other shapes: the interface first, then in node order."""
    graph = Graph(model)
    yield from _interface(graph)
    dynamic = any(_is_dynamic_batch(graph, name) for name in graph.inputs)
    for node in graph.computing:
        yield from _baked(graph, node) if dynamic else ()
        yield from _counted(graph, node)
        yield from _branch(graph, node)
        yield from _sized_by_data(graph, node)


def _interface(graph: Graph) -> Iterator[Finding]:
    """Yield inputs that fix the batch, or leave other sizes open."""
    for name in graph.inputs:
        shape = graph.shapes.get(name, ())
        if shape and isinstance(shape[0], int):
            yield Finding(RULE, "note", name, f"takes batch {shape[0]} and no other", {"batch": shape[0]})
        loose = [str(size) for size in shape[1:] if not isinstance(size, int)]
        if loose:
            text = f"leaves {', '.join(loose)} open besides the batch: engines need their range in a profile"
            yield Finding(RULE, "note", name, text, {"open": loose})


def _is_dynamic_batch(graph: Graph, name: str) -> bool:
    shape = graph.shapes.get(name, ())
    return bool(shape) and not isinstance(shape[0], int)


def _baked(graph: Graph, node: NodeProto) -> Iterator[Finding]:
    """Yield a Reshape or Expand that fixes the batch or folds it into another axis."""
    if node.op_type not in ("Reshape", "Expand") or not _is_dynamic_batch(graph, node.input[0]):
        return
    wanted = _constant(graph, node.input[1])
    if not wanted or wanted[0] in (-1, 0):
        return
    kept = node.op_type == "Reshape" and not attribute(node, "allowzero", 0) and 0 in wanted
    if node.op_type == "Expand" and wanted[0] == 1:
        return
    shape = graph.shapes.get(node.input[0], ())
    open_sizes = sum(not isinstance(size, int) for size in shape)
    if -1 not in wanted and not kept:
        text = f"its shape {wanted} has the batch baked in: any other batch fails; put -1 or 0 first"
        yield Finding(RULE, "error", node.name, text, {"shape": wanted})
    elif open_sizes == 1 and node.op_type == "Reshape":
        text = f"its shape {wanted} begins with {wanted[0]} and folds the batch into another axis: put -1 or 0 first"
        yield Finding(RULE, "warning", node.name, text, {"shape": wanted})


def _counted(graph: Graph, node: NodeProto) -> Iterator[Finding]:
    if node.op_type in COUNTED:
        text = f"how much {node.op_type} gives depends on the data: engines stop to ask, and no CUDA graph holds it"
        yield Finding(RULE, "warning", node.name, text)


def _branch(graph: Graph, node: NodeProto) -> Iterator[Finding]:
    """Yield an If, Loop or Scan. A branch on a shape is often an accident of the export."""
    if node.op_type not in BRANCHES:
        return
    by_shape = node.op_type == "If" and not _hangs_on_data(graph, node.input[0])
    why = " on a shape: export with that shape fixed, and the branch is gone" if by_shape else ""
    yield Finding(RULE, "warning", node.name, f"{node.op_type} branches{why or ' at run time; not every engine can'}")


def _sized_by_data(graph: Graph, node: NodeProto) -> Iterator[Finding]:
    """Yield a node whose sizes are computed from values rather than shapes."""
    place, what = SIZED.get(node.op_type, (-1, ""))
    if not 0 <= place < len(node.input) or not _hangs_on_data(graph, node.input[place]):
        return
    yield Finding(RULE, "warning", node.name, f"its {what} is computed from the data: engines stop to ask for it")


def _hangs_on_data(graph: Graph, name: str) -> bool:
    """Return whether a value depends on the contents of an input, not only on shapes."""

    def onward(name: str) -> Iterable[str]:
        producer = None if name in graph.constants else graph.producers.get(name)
        return () if producer is None or producer.op_type in ("Shape", "Size") else producer.input

    return any(one and one not in graph.constants and one not in graph.producers for one in reached([name], onward))


def _constant(graph: Graph, name: str) -> list[int] | None:
    """Return the integers of a constant; None if computed."""
    tensor = graph.initialisers.get(name)
    if tensor is None:
        producer = graph.producers.get(name)
        tensor = attribute(producer, "value", None) if producer is not None and producer.op_type == "Constant" else None
    return None if tensor is None else [int(size) for size in numpy_helper.to_array(tensor).ravel()]
