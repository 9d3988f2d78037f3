"""Find residual branches that may be removed whole: add(x, f(x)) becomes x.

Where kernel launches or thread synchronisation dominate the time, narrow layers save little and removed layers save all
("depth pruning"; Veit et al. 2016: a trained ResNet loses little with one block). Later layers are refitted, and those
that feed a later add on the same stream also compensate for the branch.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from ..ir import graph
from ..ir.program import Program
from ..request.constraints import Constraints
from .spaces import Branch, Channels, Space

aten: Any = torch.ops.aten
ADD = aten.add.Tensor


def extended(program: Program, channels: Channels, constraints: Constraints) -> Channels:
    """Add a space of one coordinate for each removable branch.

    A layer that a constraint keeps, keeps its branch.
    """
    spaces, kept, start = list(channels.spaces), list(channels.branches), channels.count
    names = graph.tensors_read(program.module)
    for one in found(program, channels):
        layers = list(dict.fromkeys(graph.layer_of(name) for name in names if name in one.parameters))
        if layers and not any(constraints.reason([layer]) or constraints.share([layer]) < 1 for layer in layers):
            kept.append(replace(one, space=f"{layers[0]}:branch"))
            spaces.append(Space(kept[-1].space, 1, (), None, start + len(kept) - 1, least=0))
    return replace(channels, spaces=tuple(spaces), branches=tuple(kept))


def found(program: Program, channels: Channels) -> Iterator[Branch]:
    """Yield the residual branches removable by shape, none within another; `space` is unnamed."""
    values = graph.example_values(program.module, program.example_inputs)
    costs = {one.node: one.macs for one in channels.products}
    candidates = []
    for add in program.module.graph.nodes:
        if add.target != ADD or add.kwargs or len(set(add.all_input_nodes)) != 2:
            continue
        sides = [(branch, shortcut) for branch, shortcut in _sides(add) if _alike(values[shortcut], values[add])]
        ways = [(add, shortcut, _only_for(branch, add)) for branch, shortcut in sides]
        ways = [way for way in ways if any(node.name in costs for node in way[2])]
        if ways:
            candidates.append(max(ways, key=lambda way: sum(costs.get(node.name, 0.0) for node in way[2])))
    for add, shortcut, gone in candidates:
        if not any(other in gone for other, _, _ in candidates):
            yield Branch("", add.name, shortcut.name, *_names(gone))


def _sides(add: fx.Node) -> list[tuple[fx.Node, fx.Node]]:
    first, second = add.all_input_nodes
    return [(first, second), (second, first)]


def _alike(one: Any, other: Any) -> bool:
    return isinstance(one, Tensor) and one.shape == other.shape and one.dtype == other.dtype


def _only_for(branch: fx.Node, add: fx.Node) -> frozenset[fx.Node]:
    """Return the nodes that only this operand of the add needs."""
    gone: set[fx.Node] = set()
    left = [branch]
    while left:  # ends: a graph has no circle
        node = left.pop()
        if node in gone or node.op == "placeholder":
            continue
        if all(user in gone or (user is add and node is branch) for user in node.users):
            gone.add(node)
            left += node.all_input_nodes
    return frozenset(gone)


def _names(nodes: Set[fx.Node]) -> tuple[frozenset[str], frozenset[str]]:
    """Return names of the compute nodes, and of parameters that only they read."""
    return (
        frozenset(node.name for node in nodes if node.op != "get_attr"),
        frozenset(str(node.target) for node in nodes if node.op == "get_attr"),
    )
