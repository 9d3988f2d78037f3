"""Rewrites of an exported ONNX graph, run in order by `clean`. Each keeps the outputs and the interface's names.

The exporter leaves names such as `node_Conv_374`, stack traces with local paths, and now and then an Identity. Clean-up
is for readers, parsers and reproducible bytes; it makes no engine faster (measured: the same kernels after as before).

>>> clean(model)            # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.logger import G_LOGGER

MAX_IR = 10  # read by ONNX Runtime since 1.18 and by TensorRT since 10.0


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` after every rewrite of `REWRITES`; the argument is left alone.

    onnx-graphsurgeon drops all `metadata_props`, of the model and of its nodes: the stack traces go, and provenance is
    stamped after.
    """
    with G_LOGGER.suppress(G_LOGGER.ERROR):
        graph = gs.import_onnx(model)
        for rewrite in REWRITES:
            rewrite(graph)
        cleaned: onnx.ModelProto = gs.export_onnx(graph)
    cleaned.ir_version = min(model.ir_version, MAX_IR)
    cleaned.graph.name, cleaned.graph.doc_string = "prunec", ""
    return cleaned


def fold_constants(graph: gs.Graph) -> None:
    """Compute what depends on constants alone; needs ONNX Runtime, and without it leaves the graph as it is."""
    graph.fold_constants()


def remove_identities(graph: gs.Graph) -> None:
    """Let the users of an Identity read what it reads. One from an input or a constant to an output must stay."""
    outputs = {id(tensor) for tensor in graph.outputs}
    for node in [node for node in graph.nodes if node.op == "Identity"]:
        source, copy = node.inputs[0], node.outputs[0]
        if id(copy) not in outputs:
            _replace(copy, source)
        elif source.inputs and id(source) not in outputs:
            _take_over(source, copy)


def drop_dead(graph: gs.Graph) -> None:
    """Remove nodes, constants and values that no output needs."""
    graph.cleanup()


def sort_nodes(graph: gs.Graph) -> None:
    """Every node after those it reads."""
    graph.toposort()


def name_nodes(graph: gs.Graph) -> None:
    """Call a node after the module that owns its parameters, `layer1.0.conv1`, or else `relu_3`; its value likewise.

    The names depend on the graph alone, not on the counters of the exporter: they are what a profile shows.
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


REWRITES: tuple[Callable[[gs.Graph], None], ...] = (
    fold_constants,
    remove_identities,
    drop_dead,
    sort_nodes,
    name_nodes,
)


def _proposals(node: gs.Node) -> Iterator[str]:
    """Names for `node`, best first: the owner of its parameters, then numbered ones."""
    parameters = [tensor.name for tensor in node.inputs if isinstance(tensor, gs.Constant)]
    owners = [name.rpartition(".")[0] for name in parameters if "." in name]
    stem = owners[0] if owners else node.op.lower()
    if owners:
        yield stem
    number = 0
    while True:
        yield f"{stem}_{number}"
        number += 1


def _replace(old: gs.Tensor, new: gs.Tensor) -> None:
    """Every reader of `old` reads `new`."""
    for reader in list(old.outputs):
        reader.inputs = [new if tensor is old else tensor for tensor in reader.inputs]


def _take_over(source: gs.Tensor, output: gs.Tensor) -> None:
    """The producer of `source` writes the graph's `output` itself."""
    producer = source.inputs[0]
    output.inputs.clear()
    producer.outputs = [output if tensor is source else tensor for tensor in producer.outputs]
    _replace(source, output)
