"""Factorings of layers: eligibility, cost of the parts, and break-even rank."""

from __future__ import annotations

import math

from torch import fx

from ..ir import graph
from .matrix import Blocks
from .rules.contraction import argument
from .spaces import Channels, Contraction, Factoring, Product, Split


def may_split(channels: Channels, one: Contraction, node: fx.Node) -> bool:
    """Return whether a layer can be split into two of lower rank.

    It mixes all inputs, has its own weights, a full covariance, and padding in numbers.
    """
    alone = one.weight not in graph.shared(node.graph)
    known = sum(each.node == one.node for each in channels.products) == 1
    whole = one.groups == 1 and not one.by_group and not one.transposed and one.bias is not None
    counted = not isinstance(argument(node, "padding", None), str)
    return whole and alone and known and not Blocks.of(one).folded and counted


def of(one: Contraction, split: Split, product: Product, node: fx.Node, values: graph.Values) -> Factoring:
    """Build the factoring of a layer, with the cost of its parts per channel pair."""
    wide, narrow = values[node.all_input_nodes[0]].shape[2:], values[node].shape[2:]
    positions, costs = product.scale / one.taps, []
    grown = [before / after for before, after in zip(wide, narrow, strict=False)]
    for layer in split.layers:
        grown = [1.0 if mine else more for more, mine in zip(grown, layer, strict=False)]
        taps = math.prod(size for size, mine in zip(split.kernel, layer, strict=True) if mine)
        costs.append(positions * taps * math.prod(grown))
    name = f"{graph.layer_of(one.weight)}:rank"
    return Factoring(one.node, name, split, costs[0], costs[-1], sum(costs[1:-1]))


def highest(one: Contraction, found: Factoring) -> int:
    """Return the highest rank of the weight."""
    return found.split.highest(len(one.inputs), len(one.outputs))


def even(one: Contraction, found: Factoring, product: Product) -> int:
    """Return the rank at which the parts cost as much as the layer. One above the highest rank if there is none."""
    rank = found.rank_of(product.macs, len(one.inputs), len(one.outputs))
    return min(math.ceil(rank - 1e-9), highest(one, found) + 1)
