"""List the layers of an ONNX graph with their cost.

    MACs of a convolution = positions of its output · taps · channels read / groups · channels made
    MACs of a product of matrices = entries of its output · length of the sum

A layer is a node that depends on an input; nodes of constants alone (a weight that is dequantised, cast or transposed)
are its parameters. Counts are for one sample, or for the batch that the file fixes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from math import prod
from typing import Any

import onnx
from onnx import NodeProto, helper

from ...errors import BackendError, first_line

Shape = tuple[int | str, ...]
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")  # no memory of their own
BITS = {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4, onnx.TensorProto.FLOAT4E2M1: 4}


@dataclass(frozen=True)
class Layer:
    """One node of a network, or several fused by an engine."""

    name: str
    op: str
    output: Shape
    """Shape of its first output; names for dynamic sizes, empty if unknown."""
    reads: tuple[str, ...] = ()
    """Layers or network inputs whose values it reads."""
    weight: tuple[int, ...] = ()
    """Shape of its largest parameter: [out, in/groups, kernel …] of a convolution."""
    groups: int = 1
    parameters: int = 0
    macs: int = 0
    activation_bytes: int = 0
    """Size of its outputs, in bytes."""
    dtype: str = ""
    """Storage type of its parameters, else of its output."""
    nodes: tuple[str, ...] = ()
    """ONNX nodes in it, if an engine has fused several."""
    kernel_name: str = ""
    """Engine's name for the code that runs it."""

    @property
    def kernel(self) -> tuple[int, ...]:
        """Return the taps along each spatial axis; empty unless a convolution."""
        return self.weight[2:]


@dataclass(frozen=True)
class Network:
    """Layers in order of execution, and their totals."""

    layers: tuple[Layer, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    """Layers that make the outputs."""
    peak_bytes: int = 0
    """Peak activation memory in bytes, without inputs; no operator in place."""
    is_engine: bool = False
    """True if each layer is a kernel."""

    @property
    def macs(self) -> int:
        """Return the MACs of all layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Return the number of parameters of all layers; shared ones count twice."""
        return sum(layer.parameters for layer in self.layers)


def network_of(model: onnx.ModelProto) -> Network:
    """Return the layers of `model`. Raises BackendError if shapes contradict each other."""
    graph = Graph(model)
    layers = tuple(_layer(graph, node) for node in graph.computing)
    makers = {name: layer.name for node, layer in zip(graph.computing, layers, strict=True) for name in node.output}
    outputs = tuple(makers[entry.name] for entry in model.graph.output if entry.name in makers)
    return Network(layers, graph.inputs, outputs, _peak(graph))


class Graph:
    """Look-ups in an ONNX graph with inferred shapes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        try:
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except (onnx.shape_inference.InferenceError, ValueError) as error:
            raise BackendError(
                f"the shapes in the model cannot be inferred ({first_line(error)}): export it again"
            ) from error
        graph = self.graph = inferred.graph
        self.initialisers = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = tuple(entry.name for entry in graph.input if entry.name not in self.initialisers)
        entries = (*graph.input, *graph.value_info, *graph.output)
        self.shapes: dict[str, Shape] = {name: tuple(tensor.dims) for name, tensor in self.initialisers.items()}
        self.shapes |= {entry.name: _shape(entry) for entry in entries if entry.type.tensor_type.HasField("shape")}
        self.types = {name: tensor.data_type for name, tensor in self.initialisers.items()}
        self.types |= {entry.name: entry.type.tensor_type.elem_type for entry in entries}
        self.producers = {name: node for node in graph.node for name in node.output if name}

    @cached_property
    def constants(self) -> dict[str, str]:
        """Return the source initialiser of each value that depends on constants alone."""
        found = {name: name for name in self.initialisers}
        for node in self.graph.node:
            given = [name for name in node.input if name]
            if all(name in found for name in given) and not _hides_inputs(node):
                found |= {name: found[given[0]] if given else name for name in node.output}
        return found

    @cached_property
    def computing(self) -> list[NodeProto]:
        """Return the nodes that depend on an input, in order, all named."""
        nodes = [node for node in self.graph.node if any(name not in self.constants for name in node.output)]
        taken = {node.name for node in nodes}
        for node in nodes:
            node.name = node.name or next(name for name in _numbered(node.op_type.lower()) if name not in taken)
            taken.add(node.name)
        return nodes

    def size(self, name: str) -> int:
        """Return a value's number of entries; a dynamic size counts 1, an unknown shape 0."""
        return elements(self.shapes[name]) if name in self.shapes else 0

    def bytes(self, name: str) -> int:
        """Return the memory of a value in bytes."""
        kind = self.types.get(name, 0)
        bits = BITS.get(kind) or (8 * helper.tensor_dtype_to_np_dtype(kind).itemsize if kind else 0)
        return self.size(name) * bits // 8


def _hides_inputs(node: NodeProto) -> bool:
    """Return whether a node depends on more than its inputs: random numbers or branches."""
    branches = any(one.type == onnx.AttributeProto.GRAPH for one in node.attribute)
    return branches or node.op_type.startswith("Random") or node.op_type in ("Bernoulli", "Multinomial")


def _numbered(stem: str) -> Iterator[str]:
    return (f"{stem}_{number}" for number in count())  # lazy: as many as there are names to give


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute, or `default`."""
    return next((helper.get_attribute_value(one) for one in node.attribute if one.name == name), default)


def elements(shape: Shape) -> int:
    """Return the number of entries; a dynamic size counts 1."""
    return prod(size if isinstance(size, int) else 1 for size in shape)


def _shape(entry: onnx.ValueInfoProto) -> Shape:
    sizes = entry.type.tensor_type.shape.dim
    return tuple(size.dim_value if size.HasField("dim_value") else size.dim_param or "?" for size in sizes)


def _layer(graph: Graph, node: NodeProto) -> Layer:
    constants = [name for name in node.input if name in graph.constants]
    weights = sorted((graph.shapes.get(name, ()) for name in constants), key=elements, reverse=True)
    floating = [name for name in constants if _is_weight(graph, name)]
    reads = [_reader_name(graph, name) for name in node.input if name and name not in graph.constants]
    return Layer(
        name=node.name,
        op=node.op_type,
        output=graph.shapes.get(node.output[0], ()),
        reads=tuple(dict.fromkeys(reads)),
        weight=tuple(int(size) for size in weights[0]) if weights and node.op_type in _MACS else (),
        groups=attribute(node, "group", 1),
        parameters=sum(graph.size(name) for name in floating),
        macs=_MACS[node.op_type](graph, node) if node.op_type in _MACS else 0,
        activation_bytes=0 if node.op_type in VIEWS else sum(graph.bytes(name) for name in node.output if name),
        dtype=_stored(graph, node, constants),
    )


def _stored(graph: Graph, node: NodeProto, constants: list[str]) -> str:
    """Return the storage type of the largest parameter, else that of the output."""
    largest = max(constants, key=graph.size, default="") if node.op_type in _MACS else ""
    kind = graph.types.get(graph.constants.get(largest, node.output[0]), 0)
    return str(onnx.TensorProto.DataType.Name(kind)).lower()


def _is_weight(graph: Graph, name: str) -> bool:
    """Return whether a constant is a parameter, and no shape, axis or limit."""
    kind = graph.types.get(name, 0)
    return kind not in (onnx.TensorProto.INT64, onnx.TensorProto.BOOL) and len(graph.shapes.get(name, ())) > 0


def _reader_name(graph: Graph, name: str) -> str:
    return graph.producers[name].name if name in graph.producers else name


def _conv(graph: Graph, node: NodeProto) -> int:
    weight = graph.shapes.get(node.input[1], ())
    return graph.size(node.output[0]) * elements(weight[1:])


def _transposed(graph: Graph, node: NodeProto) -> int:
    weight = graph.shapes.get(node.input[1], ())
    return graph.size(node.input[0]) * elements(weight[1:])


def _matmul(graph: Graph, node: NodeProto) -> int:
    first = graph.shapes.get(node.input[0], ())
    axis = 0 if attribute(node, "transA", 0) else -1
    return graph.size(node.output[0]) * elements(first[axis:][:1]) if first else 0


_MACS = {"Conv": _conv, "ConvTranspose": _transposed, "Gemm": _matmul, "MatMul": _matmul}


def _peak(graph: Graph) -> int:
    """Return the peak bytes, each value alive from its producer to its last reader."""
    last = {name: place for place, node in enumerate(graph.computing) for name in _owned(graph, node)}
    end = len(graph.computing)
    last |= {_owner(graph, entry.name): end for entry in graph.graph.output}
    alive, most = 0, 0
    freed: Counter[int] = Counter()
    for place, node in enumerate(graph.computing):
        for name in () if node.op_type in VIEWS else (name for name in node.output if name in last):
            alive += graph.bytes(name)
            freed[last[name]] += graph.bytes(name)
        most = max(most, alive)
        alive -= freed[place]
    return most


def _owned(graph: Graph, node: NodeProto) -> Iterator[str]:
    """Return the values that a node makes or reads, by the owner of their memory."""
    names = [name for name in (*node.input, *node.output) if name and name not in graph.constants]
    return (owner for name in names if (owner := _owner(graph, name)) not in graph.inputs)


def _owner(graph: Graph, name: str) -> str:
    """Return the value that a chain of views reads."""
    while name in graph.producers and graph.producers[name].op_type in VIEWS:  # ends: a checked graph has no circle
        name = graph.producers[name].input[0]
    return name
