"""Give each layer that may become two a space of ranks, so that ranks and channels compete for one budget.

A layer with some coordinates of its rank space left costs what its two parts cost; with all of them it stays one layer.
Of several ways the one whose error is lowest at half of the layer's MACs is taken. The error curve is that of the best
two parts (CC: Li et al., CVPR 2021, "Collaborative Compression", with its currency, error for MACs, and with least
squares in the place of its gradient metric).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor, fx

from prunec import graph, lowrank
from prunec.channels.analysis import layer_of
from prunec.channels.contraction import argument
from prunec.channels.spaces import Channels, Contraction, Factoring, Product, Space, Split
from prunec.facts import Curve, Curves, Statistics
from prunec.pipeline import Pass
from prunec.program import Context, Program
from prunec.readers import Blocks, weight_of
from prunec.registry import STRATEGIES
from prunec.strategy import Decomposer


@dataclass(frozen=True)
class Ranks(Pass):
    """Add rank spaces and their curves."""

    method: Decomposer = field(default_factory=lambda: STRATEGIES["decomposers"].make("collaborative"))

    requires = (Channels, Statistics, Curves)
    provides = (Channels, Curves)
    strategies = MappingProxyType({"method": "decomposers"})

    def run(self, program: Program, context: Context) -> Program:
        """Replace the `Channels` and `Curves` facts by longer ones."""
        channels, moments = program.fact(Channels), program.fact(Statistics).moments
        curves = dict(program.fact(Curves).by_space)
        spaces, factorings = list(channels.spaces), list(channels.factorings)
        values = graph.example_values(program.module, program.example_inputs)
        nodes = {node.name: node for node in values}
        start = channels.count
        for one in context.track([one for one in channels.contractions if _may_split(channels, one)], "ranks"):
            kernel = tuple(graph.attribute(program.module, one.weight).shape[2:])
            if one.node not in moments or not _plain(nodes[one.node], kernel):
                continue
            product = next(each for each in channels.products if each.node == one.node)
            ways = [_factoring(one, split, product, nodes[one.node], values) for split in self.method.splits(kernel)]
            sized = [(found, space) for found in ways if (space := _space(one, found, start, context)) is not None]
            if not sized:
                continue
            weight, covariance = weight_of(program.module, one)[0], moments[one.node].zz[0]
            left = [lowrank.errors(weight, covariance, found.split, space.size) for found, space in sized]
            at_half = [float(each[_half(one, found)]) for each, (found, _) in zip(left, sized, strict=True)]
            best = at_half.index(min(at_half))
            found, space = sized[best]
            curves[space.name] = _curve(left[best])
            spaces.append(space)
            factorings.append(found)
            start += space.size
        known = replace(channels, spaces=tuple(spaces), factorings=tuple(factorings))
        return program.knowing(known, Curves(curves))


def _may_split(channels: Channels, one: Contraction) -> bool:
    """Whether a layer mixes all its inputs, has weights of its own and a full covariance."""
    alone = sum(other.weight == one.weight for other in channels.contractions) == 1
    known = sum(each.node == one.node for each in channels.products) == 1
    whole = one.groups == 1 and not one.by_group and not one.transposed and one.bias is not None
    return whole and alone and known and not Blocks.of(one).folded


def _plain(node: fx.Node, kernel: tuple[int, ...]) -> bool:
    """Whether the padding of a convolution is given in numbers, so that it can be shared out."""
    return not kernel or not isinstance(argument(node, "padding"), str)


def _factoring(one: Contraction, split: Split, product: Product, node: fx.Node, values: graph.Values) -> Factoring:
    """The two parts and what each costs a pair of channels."""
    wide, narrow = values[node.all_input_nodes[0]].shape[2:], values[node].shape[2:]
    grown = math.prod(
        before / after for before, after, mine in zip(wide, narrow, split.first, strict=False) if not mine
    )
    positions = product.scale / one.taps
    first, second = split.taps
    return Factoring(one.node, f"{layer_of(one.weight)}:rank", split, positions * first * grown, positions * second)


def _even(one: Contraction, found: Factoring) -> float:
    """The rank at which two parts cost as much as the one layer."""
    inputs, outputs = len(one.inputs), len(one.outputs)
    whole = (found.second / found.split.taps[1]) * one.taps * inputs * outputs
    return whole / (found.first * inputs + found.second * outputs)


def _half(one: Contraction, found: Factoring) -> int:
    """The rank at which two parts cost half of what the layer does."""
    return int(_even(one, found) / 2)


def _space(one: Contraction, found: Factoring, start: int, context: Context) -> Space | None:
    """Ranks up to the one where two parts cost as much as the one layer."""
    layer = layer_of(one.weight)
    inputs, outputs = len(one.inputs), len(one.outputs)
    even = math.ceil(_even(one, found))
    full = min(inputs * found.split.taps[0], outputs * found.split.taps[1])
    least = context.constraints.least([layer], full)
    if context.constraints.reason([layer]) or even < 2 or least >= even or even > full:
        return None
    return Space(found.space, even, (), None, start, least=least, step=context.constraints.step(1))


def _curve(errors: Tensor) -> Curve:
    """The highest rank goes first; with none gone the layer is whole and exact."""
    size = len(errors) - 1
    return Curve(torch.arange(size).flip(0), torch.cat([errors.new_zeros(1), errors.flip(0)[1:]]))
