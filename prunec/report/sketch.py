"""Group operators into blocks and count channels per space and value, for a picture.

A layer (or a product of activations) is a block, together with the chain of cheap operators that only it feeds; other
cheap operators form their own chains. Operators on sizes and constants are left out.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ..channels.spaces import CONSUMES, PRODUCES, Channels, Contraction, Space
from ..cost.macs import macs_of_node
from ..ir import graph
from ..ir.program import Program

SIZES_ONLY = ("new_", "zeros", "ones", "empty", "full", "arange", "eye")  # read only the shape of a value
WORDY = ("unsafe_", "native_", "_legit", "_no_training", "_with_indices", "scaled_dot_product_")
LAYER, PRODUCT, CHEAP, END = "layer", "product", "cheap", "end"
Inputs = Mapping[fx.Node, list[fx.Node]]


@dataclass(frozen=True)
class Flow:
    """Channels of a value, or of a layer's reads or writes; spaces by index."""

    channels: Mapping[int, int]  # channel count by prunable space
    fixed: int = 0  # number of frozen channels
    frozen: frozenset[int] = frozenset()  # their spaces

    @property
    def largest(self) -> int | None:
        """Prunable space with the most channels."""
        return max(self.channels, key=lambda space: (self.channels[space], -space), default=None)

    @property
    def spaces(self) -> frozenset[int]:
        """Prunable and frozen spaces."""
        return self.frozen.union(self.channels)


@dataclass(frozen=True)
class Block:
    """Operators drawn as one, the first followed by a chain."""

    kind: str  # LAYER, PRODUCT, CHEAP, or END for what comes in or goes out
    nodes: tuple[fx.Node, ...]
    layer: Contraction | None
    macs: float
    reads: Flow
    writes: Flow
    spaces: frozenset[int]  # of its inputs, outputs and parameters

    @property
    def head(self) -> fx.Node:
        """Layer, or first operator."""
        return self.nodes[0]

    @property
    def last(self) -> fx.Node:
        """Operator whose value leaves the block."""
        return self.nodes[-1]


@dataclass(frozen=True)
class Sketch:
    """Blocks in graph order, with their edges."""

    blocks: tuple[Block, ...]
    edges: tuple[tuple[int, int], ...]
    flows: Mapping[fx.Node, Flow]  # of the value, by operator
    examples: Mapping[fx.Node, Any]


def sketch(program: Program) -> Sketch:
    """Return the sketch of an analysed program: blocks, edges and flow per value."""
    channels, examples = program.fact(Channels), graph.example_values(program.module, program.example_inputs)
    nodes = list(_shown(program.module, examples))
    known = set(nodes)
    inputs = {node: [one for one in node.all_input_nodes if one in known] for node in nodes}
    layers, macs = {one.node: one for one in channels.contractions}, macs_of_node(channels)
    spaces = _Spaces(channels)
    flows = _flows(nodes, inputs, layers, spaces)
    chains = _chains(nodes, inputs, {*layers, *macs})
    blocks = tuple(_block(chain, layers.get(chain[0].name), macs, inputs, flows, spaces) for chain in chains)
    place = {node: index for index, chain in enumerate(chains) for node in chain}
    edges = {(place[source], place[node]) for node in nodes for source in inputs[node]}
    return Sketch(blocks, tuple(sorted(pair for pair in edges if pair[0] != pair[1])), flows, examples)


def name_of(node: fx.Node) -> str:
    """Return an operator's short name: `relu`, `[2]` for an entry of a list, an input's own."""
    if node.op != "call_function":
        return node.name
    if node.target is operator.getitem:
        return f"[{node.args[1]}]"
    name = str(node.target).split(".")[1].strip("_")
    for part in WORDY:
        name = name.replace(part, "")
    return name


def _shown(module: fx.GraphModule, examples: Mapping[fx.Node, Any]) -> Iterator[fx.Node]:
    """Yield the nodes with data: no parameters, sizes and constants."""
    found: set[fx.Node] = set()
    for node in module.graph.nodes:
        computed = any(source in found for source in node.all_input_nodes) and node.op != "get_attr"
        if node.op == "placeholder" or (computed and (node.op == "output" or _is_data(node, examples[node]))):
            found.add(node)
            yield node


def _is_data(node: fx.Node, value: Any) -> bool:
    if not any(isinstance(one, Tensor) for one in (value if isinstance(value, (list, tuple)) else [value])):
        return False
    return not name_of(node).startswith(SIZES_ONLY)


def _chains(nodes: list[fx.Node], inputs: Inputs, heavy: set[str]) -> list[list[fx.Node]]:
    """Group operators into chains: each has one input, which nobody else reads."""
    readers: dict[fx.Node, int] = dict.fromkeys(nodes, 0)
    for node in nodes:
        for source in inputs[node]:
            readers[source] += 1
    chains: dict[fx.Node, list[fx.Node]] = {}
    found = []
    for node in nodes:
        only = inputs[node][0] if len(inputs[node]) == 1 else None
        joins = only is not None and readers[only] == 1 and only.op == node.op == "call_function"
        if joins and only is not None and node.name not in heavy:
            chains[node] = chains[only]
            chains[node].append(node)
            continue
        chains[node] = [node]
        found.append(chains[node])
    return found


def _block(
    chain: list[fx.Node],
    layer: Contraction | None,
    macs: Mapping[str, float],
    inputs: Inputs,
    flows: Mapping[fx.Node, Flow],
    spaces: _Spaces,
) -> Block:
    head = chain[0]
    kind = END if head.op != "call_function" else LAYER if layer else PRODUCT if head.name in macs else CHEAP
    if layer:
        reads = spaces.flow(layer.inputs, spaces.frozen_at(layer.weight, PRODUCES))
        writes = spaces.flow(layer.outputs, spaces.frozen_at(layer.weight, CONSUMES))
    else:
        reads, writes = _all_of([flows[source] for source in inputs[head]]), flows[head]
    touched = frozenset(space for node in chain for space in spaces.holding(node))
    touched = touched.union(reads.spaces, writes.spaces, *(flows[node].spaces for node in chain))
    return Block(kind, tuple(chain), layer, macs.get(head.name, 0.0), reads, writes, touched)


def _all_of(flows: list[Flow]) -> Flow:
    """Merge flows: per space, the largest channel count."""
    most: dict[int, int] = {}
    for flow in flows:
        most.update({space: max(count, most.get(space, 0)) for space, count in flow.channels.items()})
    fixed = max((flow.fixed for flow in flows), default=0)
    return Flow(most, fixed, frozenset().union(*(flow.frozen for flow in flows)))


def _flows(
    nodes: list[fx.Node], inputs: Inputs, layers: Mapping[str, Contraction], spaces: _Spaces
) -> dict[fx.Node, Flow]:
    """Compute the flow of each value, by operator. Fixed channels are those of its layer, else those of its inputs."""
    found: dict[fx.Node, Flow] = {}
    for node in nodes:
        layer = layers.get(node.name)
        made = spaces.frozen_at(layer.weight, CONSUMES) if layer else spaces.holding(node)
        before = [] if layer else [found[source].frozen for source in inputs[node]]
        frozen = frozenset(one for one in made if spaces.all[one].frozen).union(*before)
        coordinates = spaces.of_value(node.name)
        found[node] = Flow({}, 0, frozen) if coordinates is None else spaces.flow(coordinates, frozen)
    return found


class _Spaces:
    """Lookup of the spaces of coordinates and parameters."""

    def __init__(self, channels: Channels) -> None:
        self.all: tuple[Space, ...] = channels.spaces
        self.values = channels.values
        self.space_of = torch.full((channels.count + 1,), -1)
        self.sites: dict[str, list[tuple[int, str]]] = {}
        for index, space in enumerate(channels.spaces):
            if space.frozen is None:
                self.space_of[space.coordinates] = index
            for site in space.sites:
                self.sites.setdefault(site.parameter, []).append((index, site.role))

    def flow(self, coordinates: Tensor, frozen: Iterable[int]) -> Flow:
        """Return the flow of these coordinates; fixed ones come from the `frozen` spaces."""
        found, counts = self.space_of[coordinates].unique(return_counts=True)
        channels = dict(zip(found.tolist(), counts.tolist(), strict=True))
        fixed = channels.pop(-1, 0)
        return Flow(channels, fixed, frozenset(frozen) if fixed else frozenset())

    def of_value(self, name: str) -> Tensor | None:
        """Return the coordinates of a node's channels, None if none is prunable."""
        axes = self.values.get(name)
        if axes is None:
            return None
        return torch.cat([one.coordinates for one in (axes if isinstance(axes, tuple) else (axes,)) if one is not None])

    def frozen_at(self, parameter: str, but: str) -> list[int]:
        """Return the frozen spaces that touch a parameter in any role but one."""
        return [place for place, role in self.sites.get(parameter, ()) if role != but and self.all[place].frozen]

    def holding(self, node: fx.Node) -> list[int]:
        """Return the spaces of a node's parameters."""
        read = [str(source.target) for source in node.all_input_nodes if source.op == "get_attr"]
        return sorted({space for name in read for space, _ in self.sites.get(name, ())})
