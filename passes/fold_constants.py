"""Replace arithmetic on parameters alone by its value.

Standardised or transposed weights and position tables become parameters, so a convolution with weight standardisation
(Qiao et al. 2019) is a plain one for later passes.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from prunec.channels.interpreter import overload_packet
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass

aten = torch.ops.aten
REPARAMETERISED = re.compile(r"(?:(?<=\.)|^)(?:parametrizations\.(\w+)\.original\d*|(\w+)_(?:orig|v|g))$")
LAZY = (aten.expand, aten.expand_as, aten.repeat)  # they would only be stored at their full size


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Replace arithmetic on parameters alone by its value; the outputs are unchanged."""

    rewrites = True
    exact = True

    def run(self, program: Program, context: Context) -> Program:
        """Return the network without arithmetic on parameters."""
        module = graph.rebuild(program.module, {})
        constants = _constants(module)
        taken: set[str] = set()
        for node in [one for one in constants if one.op == "call_function"]:
            if isinstance(constants[node], Tensor) and any(user not in constants for user in node.users):
                _replace(module, node, constants, taken)
        return program.rewritten(graph.without_dead(module))


@torch.no_grad()
def _constants(module: fx.GraphModule) -> graph.Values:
    """Return the value of every node that depends on no input."""
    values: graph.Values = {}
    for node in module.graph.nodes:
        known = all(source in values for source in node.all_input_nodes)
        if node.op == "get_attr" or (known and _folds(node)):
            values[node] = graph.run_node(module, node, values)
    return values


def _folds(node: fx.Node) -> bool:
    if node.target is operator.getitem:
        return True
    if not isinstance(node.target, torch._ops.OpOverload) or overload_packet(node) in LAZY:
        return False
    return torch.Tag.nondeterministic_seeded not in node.target.tags


def _replace(module: fx.GraphModule, node: fx.Node, constants: graph.Values, taken: set[str]) -> None:
    name = _name(module, node, constants, taken)
    taken.add(name)
    graph.assign(module, name, constants[node].contiguous().clone())
    with module.graph.inserting_before(node):
        constant = module.graph.get_attr(name)
    for user in list(node.users):
        if user not in constants:
            user.replace_input_with(node, constant)


def _name(module: fx.GraphModule, node: fx.Node, constants: graph.Values, taken: set[str]) -> str:
    """Name a constant after its largest parameter, with `_folded` if that is shared.

    `conv.weight_v`, `conv.weight_orig` and `conv.parametrizations.weight.original1` make `conv.weight`.
    """
    sources = [
        one for one in graph.reached(node.all_input_nodes, lambda one: one.all_input_nodes) if one.op == "get_attr"
    ]
    first = max(sources, key=lambda one: constants[one].numel(), default=None)
    name = "constant" if first is None else REPARAMETERISED.sub(r"\1\2", str(first.target))
    read = {str(one.target) for one in constants if one.op == "get_attr" and any(u not in constants for u in one.users)}
    while name in taken or name in read:  # ends: finitely many names are taken
        name += "_folded"
    return name
