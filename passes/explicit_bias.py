"""Give every convolution and linear layer an explicit bias, zero by default.

The mean of the removed channels moves into it, as in He et al. 2017 and CaP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx

from prunec.channels.interpreter import overload_packet
from prunec.channels.rules.contraction import RULES, argument, is_transposed
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.statistics.facts import norms_anew


@dataclass(frozen=True)
class ExplicitBias(Pass):
    """Add a bias of zeros to layers without one; the outputs are unchanged."""

    rewrites = True
    exact = True

    def run(self, program: Program, context: Context) -> Program:
        """Return the network in which each layer with a parameter weight has its own bias."""
        module = graph.rebuild(program.module, {})
        for node in list(module.graph.nodes):
            if overload_packet(node) in RULES and argument(node, "bias") is None:
                _add(module, node)
        module.recompile()
        return program.rewritten(module, *norms_anew(program))


def _add(module: fx.GraphModule, layer: fx.Node) -> None:
    weight: Any = argument(layer, "weight")
    if weight.op != "get_attr":
        return
    tensor = graph.attribute(module, weight.target)
    if tensor.dim() < 2:  # a vector: one output, without an axis
        return
    outputs = tensor.shape[1] * int(argument(layer, "groups")) if is_transposed(layer) else tensor.shape[0]
    graph.set_bias(module, layer, tensor.new_zeros(outputs))
