"""Name nodes after their modules, and the interface as the user asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_graphsurgeon as gs

from ....errors import SpecError
from ....ir.graph import layer_of


def name_nodes(graph: gs.Graph) -> None:
    """Name a node after its parameters' module, `layer1.0.conv1`, or else `relu_3`.

    Values are named likewise. Names depend on the graph alone, not on the exporter's counters: profiles show them.
    """
    interface = {id(tensor) for tensor in (*graph.inputs, *graph.outputs)}
    constants = {name for name, tensor in graph.tensors().items() if isinstance(tensor, gs.Constant)}
    taken = constants | {tensor.name for tensor in (*graph.inputs, *graph.outputs)}
    for node in graph.nodes:
        node.name = next(name for name in _proposals(node) if name not in taken)
        taken.add(node.name)
        inner = [tensor for tensor in node.outputs if id(tensor) not in interface]
        for position, tensor in enumerate(inner):
            tensor.name = f"{node.name}:{position}" if position else node.name


def name_interface(graph: gs.Graph, names: Mapping[str, str]) -> None:
    """Rename inputs and outputs, old to new. Raises SpecError if missing or taken."""
    interface = {tensor.name: tensor for tensor in (*graph.inputs, *graph.outputs)}
    for old, new in names.items():
        if old not in interface:
            raise SpecError(f"the model has no input or output '{old}' to rename; it has {', '.join(interface)}")
        if not new or new in graph.tensors() or list(names.values()).count(new) > 1:
            raise SpecError(f"'{old}' cannot be called '{new}': that name is empty, or taken; choose another")
    for old, new in names.items():
        interface[old].name = new


def _proposals(node: gs.Node) -> Iterator[str]:
    """Yield names for `node`, best first: its parameters' owner, then numbered ones."""
    parameters = [tensor.name for tensor in node.inputs if isinstance(tensor, gs.Constant)]
    layers = [(layer_of(name), name) for name in parameters]
    owners = [name.rpartition(".")[0] if layer == name else layer for layer, name in layers if "." in name]
    stem = owners[0] if owners else node.op.lower()
    if owners:
        yield stem
    number = 0
    while True:  # ends: the reader stops at the first free name
        yield f"{stem}_{number}"
        number += 1
