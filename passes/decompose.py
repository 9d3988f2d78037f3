"""Write each layer whose rank the plan has lowered as two layers.

conv(x, W) = conv(conv(x, A), B),  W = B A:  each axis of the kernel, with its stride, padding and dilation, goes to one
of the two. The weight has that rank already where `compensate` has fitted it; otherwise the SVD cuts it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from prunec import graph, lowrank
from prunec.channels.contraction import argument
from prunec.channels.spaces import Split
from prunec.pipeline import Pass
from prunec.plan import Plan
from prunec.program import Context, Program

SHARED_OUT = {"stride": 1, "padding": 0, "dilation": 1}  # arguments by axis, and what the other layer gets


@dataclass(frozen=True)
class Decompose(Pass):
    """Split the layers of lower rank, after `slice`; the plan stays known."""

    requires = (Plan,)
    provides = (Plan,)
    rewrites = True

    def run(self, program: Program, context: Context) -> Program:
        """The network with two layers where that is cheaper."""
        plan = program.fact(Plan)
        if not plan.ranks:
            return program
        module = graph.rebuild(program.module, {})
        for node in list(module.graph.nodes):
            if node.name in plan.ranks:
                _split(module, node, *plan.ranks[node.name])
        module.graph.eliminate_dead_code()
        module.recompile()
        return program.rewritten(graph.rebuild(module, {}), plan)


def _split(module: fx.GraphModule, node: fx.Node, split: Split, rank: int) -> None:
    weight_node, bias = argument(node, "weight"), argument(node, "bias")
    name = str(weight_node.target).removesuffix(".weight")
    weight = graph.attribute(module, str(weight_node.target))
    source: Any = node.args[0]
    for place, tensor in enumerate(lowrank.split_exactly(weight, split, rank)):
        graph.assign(module, f"{name}.{place}.weight", tensor.to(weight.dtype).contiguous())
        with module.graph.inserting_before(node):
            read = module.graph.get_attr(f"{name}.{place}.weight")
            arguments = [source, read, bias if place else None, *_shared_out(node, split, first=not place)]
            source = module.graph.call_function(node.target, tuple(arguments))  # type: ignore[arg-type]
    node.replace_all_uses_with(source)


def _shared_out(node: fx.Node, split: Split, first: bool) -> list[Any]:
    """The arguments after the bias, for one of the two layers."""
    names = [item.name for item in node.target._schema.arguments][3:]  # type: ignore[union-attr]
    values = {name: argument(node, name) for name in names}
    values |= {name: _of_axes(values[name], SHARED_OUT[name], split, first) for name in names if name in SHARED_OUT}
    return list(values.values())


def _of_axes(value: Any, other: int, split: Split, first: bool) -> list[int]:
    """A number for each axis: the node's where the axis is this layer's, else `other`."""
    given = [value] if isinstance(value, int) else list(value)
    spread = given * len(split.kernel) if len(given) == 1 else given
    return [one if mine == first else other for one, mine in zip(spread, split.first, strict=True)]
