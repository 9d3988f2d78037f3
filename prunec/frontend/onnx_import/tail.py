"""Cut an ONNX model before what cannot be imported, and join it again.

The tail is every node that is not imported and all that reads its results: decoders, NonMaxSuppression, If, custom
operators. The head is the rest, and its outputs are what the tail reads. Only the head is pruned.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from .node import OPERATORS
from .prepare import STANDARD, converted

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def is_imported(node: onnx.NodeProto) -> bool:
    """Return whether an operator can be imported, or is a constant."""
    return node.domain in STANDARD and (node.op_type in OPERATORS or node.op_type == "Constant")


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, in its subgraphs too."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from reads(inner)
            yield from (one.name for one in graph.output)


def tail_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return nodes that are not imported or depend on such nodes."""
    behind: set[str] = set()
    found = []
    for node in model.graph.node:
        if not is_imported(node) or behind.intersection(reads(node)):
            behind.update(node.output)
            found.append(node)
    return found


def head_of(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto | None]:
    """Return the part to import; and the whole model, None if nothing is cut off.

    Both are of one operator set. The model itself is returned where nothing is cut, or where no layer would be left.
    """
    if all(is_imported(node) for node in model.graph.node):
        return model, None
    whole = onnx.shape_inference.infer_shapes(converted(model))
    tail = tail_of(whole)
    names = {name for node in tail for name in node.output}
    nodes = [node for node in whole.graph.node if not names.intersection(node.output)]
    if not any(node.op_type in LAYERS for node in nodes):
        return model, None
    head = onnx.ModelProto()
    head.CopyFrom(whole)
    _keep(head, nodes, _frontier(whole, nodes, tail))
    return head, whole


def _frontier(
    whole: onnx.ModelProto, nodes: list[onnx.NodeProto], tail: list[onnx.NodeProto]
) -> list[onnx.ValueInfoProto]:
    """Return the outputs of the head, in the order of its nodes."""
    made = [name for node in nodes if node.op_type != "Constant" for name in node.output]
    read = {name for node in tail for name in reads(node)} | {one.name for one in whole.graph.output}
    kinds = {one.name: one for one in (*whole.graph.value_info, *whole.graph.output)}
    return [kinds[name] for name in made if name in read and name in kinds]


def _keep(head: onnx.ModelProto, nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto]) -> None:
    """Leave `nodes`, what they read and `outputs` in a model, in place."""
    graph = head.graph
    read = {name for node in nodes for name in reads(node)}
    for field in (graph.initializer, graph.input):
        kept = [one for one in field if one.name in read]
        del field[:]
        field.extend(kept)
    for field, entries in ((graph.node, nodes), (graph.output, outputs)):
        del field[:]
        field.extend(entries)
    del graph.value_info[:]


def joined(made: onnx.ModelProto, whole: onnx.ModelProto) -> onnx.ModelProto:
    """Return a compressed head, of `head_of`, with the tail of the whole model behind it.

    Inner names of the head that the tail has too must have been renamed.
    """
    found = onnx.ModelProto()
    found.CopyFrom(made)
    graph, tail = found.graph, tail_of(whole)
    made_by_head = {name for node in graph.node for name in node.output}
    read = {name for node in tail for name in reads(node)}
    constants = [node for node in whole.graph.node if node.op_type == "Constant" and node.output[0] in read]
    graph.node.extend(node for node in constants if node.output[0] not in made_by_head)
    graph.node.extend(tail)
    stored = {one.name for one in graph.initializer}
    graph.initializer.extend(one for one in whole.graph.initializer if one.name in read and one.name not in stored)
    inputs, given = {one.name: one for one in graph.input}, {one.name for one in whole.graph.initializer}
    entries = [inputs.get(one.name, one) for one in whole.graph.input if one.name not in given]
    for field, wanted in ((graph.input, entries), (graph.output, list(whole.graph.output))):
        del field[:]
        field.extend(wanted)
    present = {one.domain for one in found.opset_import}
    found.opset_import.extend(one for one in whole.opset_import if one.domain not in present)
    found.functions.extend(whole.functions)
    return found
