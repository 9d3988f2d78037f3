"""Add a rank space for each factorable layer, so that ranks compete with channels.

A layer costs what its parts cost at the kept rank; at full rank it is one layer. Of several splits the one with the
least error at half of the layer's MACs is used. The error curve is that of the best parts (CC: Li et al., CVPR 2021,
"Collaborative Compression", with its currency, error for MACs, and least squares for its gradient metric).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from prunec.channels import factorings as factoring
from prunec.channels.matrix import weight_of
from prunec.channels.spaces import Channels, Contraction, Factoring, Product, Space
from prunec.grammar.registry import STRATEGIES
from prunec.ir import graph
from prunec.ir.program import Program
from prunec.pipeline.context import Context
from prunec.pipeline.pipeline import Pass
from prunec.selection.interface import Decomposer
from prunec.solvers import lowrank
from prunec.solvers.symmetric import naming
from prunec.statistics.facts import Curve, Curves, Statistics


@dataclass(frozen=True)
class Ranks(Pass):
    """Add rank spaces and their curves."""

    method: Decomposer = field(default_factory=lambda: STRATEGIES["decomposers"].make("collaborative"))

    requires = (Channels, Statistics, Curves)
    provides = (Channels, Curves)
    strategies = MappingProxyType({"method": "decomposers"})

    def run(self, program: Program, context: Context) -> Program:
        """Replace the `Channels` and `Curves` facts by extended ones."""
        channels, moments = program.fact(Channels), program.fact(Statistics).moments
        curves = dict(program.fact(Curves).by_space)
        spaces, factorings = list(channels.spaces), list(channels.factorings)
        values = graph.example_values(program.module, program.example_inputs)
        nodes = {node.name: node for node in values}
        start = channels.count
        for one in context.track(channels.contractions, "ranks"):
            kernel = tuple(graph.attribute(program.module, one.weight).shape[2:])
            if one.node not in moments or not factoring.may_split(channels, one, nodes[one.node]):
                continue
            product = next(each for each in channels.products if each.node == one.node)
            splits = self.method.splits(kernel)
            ways = [factoring.of(one, split, product, nodes[one.node], values) for split in splits]
            sized = [(found, space) for found in ways if (space := _space(one, found, product, start, context))]
            if not sized:
                continue
            weight, covariance = weight_of(program.module, one)[0], moments[one.node].covariance[0]
            with naming(one.weight):
                found, space, parts = _best(one, sized, product, lowrank.Layer(weight, covariance))
                curves[space.name] = _curve(parts.errors(space.size - 1))
            spaces.append(space)
            factorings.append(found)
            start += space.size
        known = replace(channels, spaces=tuple(spaces), factorings=tuple(factorings))
        return program.knowing(known, Curves(curves))


def _best(
    one: Contraction, ways: list[tuple[Factoring, Space]], product: Product, layer: lowrank.Layer
) -> tuple[Factoring, Space, lowrank.Parts]:
    """Return the first split with least error at half the layer's MACs, with parts."""
    tried = [(found, space, lowrank.Parts.of(layer, found.split, space.size - 1)) for found, space in ways]
    if len(tried) == 1:
        return tried[0]
    errors = []
    for found, space, parts in tried:
        half = found.rank_of(product.macs / 2, len(one.inputs), len(one.outputs))
        rank = min(int(half), space.size - 1)
        errors.append(float(parts.errors(rank)[-1]))
    return tried[errors.index(min(errors))]


def _space(one: Contraction, found: Factoring, product: Product, start: int, context: Context) -> Space | None:
    """Return the ranks up to the break-even with the one layer, or None."""
    layer = graph.layer_of(one.weight)
    full, even = factoring.highest(one, found), factoring.even(one, found, product)
    least = context.constraints.least([layer], full)
    if context.constraints.reason([layer]) or even < 2 or least >= even:
        return None
    return Space(found.space, even, (), None, start, least=least, step=context.constraints.step(1))


def _curve(errors: Tensor) -> Curve:
    """Return a curve that removes the highest rank first, exact at full rank."""
    return Curve(torch.arange(len(errors)).flip(0), torch.cat([errors.new_zeros(1), errors.flip(0)]))
