"""Rewrite products with a parameter as linear layers.

x @ W = linear(x, W')          b + x @ W = linear(x, W', b)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from prunec.channels.interpreter import overload_packet
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass

aten = torch.ops.aten


@dataclass(frozen=True)
class AsLinear(Pass):
    """Turn products with parameters into linear layers; the outputs are unchanged."""

    rewrites = True
    exact = True

    def run(self, program: Program, context: Context) -> Program:
        """Return the network with more linear layers."""
        module = graph.rebuild(program.module, {})
        for node in list(module.graph.nodes):
            if (found := _matrix(module, node)) is not None:
                _replace(module, node, *found)
        return program.rewritten(graph.without_dead(module))


Found = tuple[fx.Node, Tensor, "Tensor | None", str]  # input, weight [O, I], bias, name of the parameter


def _matrix(module: fx.GraphModule, node: fx.Node) -> Found | None:
    """Match x @ W, or b + x @ W."""
    packet = overload_packet(node)
    if packet not in (aten.matmul, aten.mm, aten.addmm):
        return None
    source, matrix = node.args[-2:] if packet is not aten.addmm else node.args[1:3]
    added = node.args[0] if packet is aten.addmm else None
    constant = [one for one in (matrix, added) if one is not None]
    if any(not isinstance(one, fx.Node) or one.op != "get_attr" for one in constant) or node.kwargs:
        return None
    weight = graph.attribute(module, str(matrix.target))  # type: ignore[union-attr]
    bias = None if added is None else graph.attribute(module, str(added.target))  # type: ignore[union-attr]
    if weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[1:]) or not isinstance(source, fx.Node):
        return None
    return source, weight.mT.contiguous(), bias, str(matrix.target)  # type: ignore[union-attr]


def _replace(
    module: fx.GraphModule, node: fx.Node, source: fx.Node, weight: Tensor, bias: Tensor | None, name: str
) -> None:
    if name in graph.shared(module.graph):
        name = _stored(module, f"{name}_linear", weight)
    graph.assign(module, name, weight)
    shift = None if bias is None else _stored(module, f"{name}_bias", bias)
    with module.graph.inserting_before(node):
        arguments = [source, module.graph.get_attr(name)]
        if shift is not None:
            arguments.append(module.graph.get_attr(shift))
        linear = module.graph.call_function(aten.linear.default, tuple(arguments))
    node.replace_all_uses_with(linear)


def _stored(module: fx.GraphModule, name: str, tensor: Tensor) -> str:
    """Store a tensor beside the others, and return its unique name."""
    read = graph.tensors_read(module)
    while name in read and not torch.equal(graph.attribute(module, name), tensor):  # ends: finitely many names are read
        name += "_"
    graph.assign(module, name, tensor)
    return name
