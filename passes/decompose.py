"""Factor each layer of lowered rank into two or more layers.

conv(x, W) = conv(conv(x, A), B), W = B A: each axis of the kernel, with its stride, padding and dilation, belongs to
one of them. A weight fitted by `compensate` has that rank already; otherwise the SVD cuts it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import fx

from prunec.channels.rules.contraction import argument
from prunec.channels.spaces import Split
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.solvers import lowrank
from prunec.surgery.plan import Plan

SHARED_OUT = {"stride": 1, "padding": 0, "dilation": 1}  # arguments by axis, and what the other layer gets


@dataclass(frozen=True)
class Decompose(Pass):
    """Split the layers of lower rank, after `slice`; the plan is kept."""

    requires = (Plan,)
    provides = (Plan,)
    rewrites = True

    def run(self, program: Program, context: Context) -> Program:
        """Return the network with several layers where those are cheaper than one."""
        plan = program.fact(Plan)
        if not plan.ranks:
            return program
        module = graph.rebuild(program.module, {})
        for node in list(module.graph.nodes):
            if node.name in plan.ranks:
                _split(module, node, *plan.ranks[node.name])
        return program.rewritten(graph.without_dead(module), plan)


def _split(module: fx.GraphModule, node: fx.Node, split: Split, rank: int) -> None:
    weight_node, bias = argument(node, "weight"), argument(node, "bias")
    name = _owner(module, str(weight_node.target))
    weight = graph.attribute(module, str(weight_node.target))
    source: Any = node.args[0]
    parts = lowrank.split_exactly(graph.numbers(module, str(weight_node.target)), split, rank)
    for place, (tensor, axes) in enumerate(zip(parts, split.layers, strict=True)):
        graph.assign(module, f"{name}.{place}.weight", tensor.to(weight).contiguous())
        with module.graph.inserting_before(node):
            read = module.graph.get_attr(f"{name}.{place}.weight")
            last = place + 1 == len(parts)
            arguments = [source, read, bias if last else None, *_shared_out(node, axes)]
            source = module.graph.call_function(node.target, tuple(arguments))  # type: ignore[arg-type]
    node.replace_all_uses_with(source)


def _owner(module: fx.GraphModule, weight: str) -> str:
    """Return the path of the module that holds the parts.

    It is the layer's, unless a parameter has that path or one below it.
    """
    taken = graph.tensors_read(module)
    stem = graph.layer_of(weight)
    # ends: finitely many names are taken
    while stem in taken or any(re.match(rf"{re.escape(stem)}\.\d+(\.|$)", name) for name in taken):
        stem += "_parts"
    return stem


def _shared_out(node: fx.Node, axes: tuple[bool, ...]) -> list[Any]:
    """Return the arguments after the bias, for the layer with these kernel axes."""
    names = [item.name for item in node.target._schema.arguments][3:]  # type: ignore[union-attr]
    values = {name: argument(node, name) for name in names}
    values |= {name: _of_axes(values[name], SHARED_OUT[name], axes) for name in names if name in SHARED_OUT}
    return list(values.values())


def _of_axes(value: Any, other: int, axes: tuple[bool, ...]) -> list[int]:
    """Return the node's number on this layer's axes, `other` on the rest."""
    given = [value] if isinstance(value, int) else list(value)
    spread = given * len(axes) if len(given) == 1 else given
    return [one if mine else other for one, mine in zip(spread, axes, strict=True)]
