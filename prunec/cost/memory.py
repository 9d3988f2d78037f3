"""Compute peak activation memory: the values alive at each step of the graph.

A value is alive from the step that makes it to the last that reads it. A view keeps its source alive. An elementwise
step whose first input dies with it writes in its place. The network's inputs count, weights do not; one sample. An
engine that shares memory less well takes more, in about the same proportion.
"""

from __future__ import annotations

import itertools
import math
import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from ..channels.interpreter import overload_packet, tensors
from ..channels.spaces import Channels, Factoring
from ..ir import graph
from .builder import Builder
from .resources import Quantity

aten: Any = torch.ops.aten
VIEWS = frozenset(
    getattr(aten, name)
    for name in (
        "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "squeeze", "unsqueeze", "expand", "slice",
        "select", "split", "split_with_sizes", "unbind", "alias", "detach", "narrow", "flatten", "chunk",
    )
)  # fmt: skip
IN_PLACE = frozenset(
    getattr(aten, name)
    for name in (
        "relu", "hardtanh", "clamp", "sigmoid", "tanh", "silu", "gelu", "hardswish", "hardsigmoid", "leaky_relu", "elu",
        "add", "sub", "mul", "div",
    )
)  # fmt: skip


def memory(channels: Channels, module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> Quantity:
    """Return the bytes of activations alive at once, of one sample."""
    values = graph.example_values(module, inputs)
    order = [node for node in module.graph.nodes if node.op in ("placeholder", "call_function")]
    last, owner = _lives(module, order, values)
    factorings = {one.node: one for one in channels.factorings}
    build, steps, alive = Builder(channels), [], dict[fx.Node, list[int]]()
    for place, node in enumerate(order):
        before = _flat(alive)
        if owner[node] is node:
            alive[node] = value_terms(build, channels, node, values[node], len(inputs[0]))
        steps.append(_flat(alive))
        alive = {root: held for root, held in alive.items() if last[root] > place}
        if node.name in factorings:
            steps += _inside(build, factorings[node.name], node, values, (before, _flat(alive)))
    together = np.zeros((len(steps), len(build.found)))
    for row, held in zip(together, steps, strict=True):
        row[held] = 1.0
    return Quantity("memory", build.terms(), together)


def _lives(
    module: fx.GraphModule, order: list[fx.Node], values: graph.Values
) -> tuple[dict[fx.Node, int], dict[fx.Node, fx.Node]]:
    """Return the last step that reads each buffer, and the buffer of each node."""
    place = {node: number for number, node in enumerate(order)}
    place |= {node: len(order) for node in module.graph.nodes if node.op == "output"}
    owner: dict[fx.Node, fx.Node] = {}
    last: dict[fx.Node, int] = {}
    for node in order:
        root = owner[node] = _buffer(node, owner, last, place[node], values)
        last[root] = max([last.get(root, 0), place[node], *(place[user] for user in node.users)])
    return last, owner


def _buffer(
    node: fx.Node, owner: dict[fx.Node, fx.Node], last: dict[fx.Node, int], now: int, values: graph.Values
) -> fx.Node:
    """Return the node whose buffer holds a value: of a view's source, or of an input reused in place."""
    sources = [source for source in node.all_input_nodes if source in owner]
    if not sources:
        return node
    packet = overload_packet(node)
    if node.target is operator.getitem or packet in VIEWS:
        return owner[sources[0]]
    first, value = sources[0], values[node]
    same = isinstance(value, Tensor) and isinstance(values[first], Tensor) and values[first].shape == value.shape
    return owner[first] if packet in IN_PLACE and same and last[owner[first]] == now else node


def value_terms(build: Builder, channels: Channels, node: fx.Node, value: Any, samples: int) -> list[int]:
    """Add a term for each tensor in a value, in bytes; return their indices."""
    known = channels.values.get(node.name)
    axes = known if isinstance(known, tuple) else (known,)
    found, gate = [], build.gates.get(node.name)
    for number, one in enumerate(tensors(value)):
        axis = axes[number] if number < len(axes) else None
        scale = one.numel() * one.element_size() / samples
        if axis is None:
            found.append(build.add(scale, gate=gate))
        else:
            found.append(build.add(scale / len(axis.coordinates), axis.coordinates, gate=gate))
    return found


def _inside(
    build: Builder, one: Factoring, node: fx.Node, values: graph.Values, around: tuple[list[int], list[int]]
) -> list[list[int]]:
    """Return the terms alive at each part of a factored layer: first also those before, last those after."""
    source, value = values[node.all_input_nodes[0]], values[node]
    sizes = list(source.shape[2:]) if one.split.kernel else [value[0, ..., 0].numel()]
    between = []
    for layer in one.split.layers[:-1]:
        sizes = [
            narrow if mine else size
            for size, narrow, mine in zip(sizes, value.shape[2:] if layer else sizes, layer or (False,), strict=True)
        ]
        cost = math.prod(sizes) * value.element_size()
        gate = build.gates.get(one.node)
        between.append(build.add(0.0, factoring=one, parts=(cost, 0.0, 0.0), gate=gate))
    pairs = [[first, second] for first, second in itertools.pairwise(between)]
    return [[*around[0], between[0]], *pairs, [*around[1], between[-1]]]


def _flat(alive: dict[fx.Node, list[int]]) -> list[int]:
    return [number for held in alive.values() for number in held]
