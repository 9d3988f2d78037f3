"""Count MACs: the sum over layers of positions · taps · outputs · inputs / groups, and over attention.

One MAC is one multiplication with its addition; biases, activations, pooling and folded batch norms count nothing (the
convention of the papers). With keep counts n the sum is bilinear: each factor is fixed + sum_s n_s · rows of space s. A
layer that may be factored costs the least of itself and of its parts:

    min( scale · outputs · inputs,  rank · (first · inputs + middle · rank + second · outputs) )
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..channels.spaces import Channels
from .terms import Array, Cost, Counts, Terms

__all__ = ["Cost", "Counts", "Macs"]


@dataclass(frozen=True)
class Macs(Terms):
    """MACs of one sample as a function of how many coordinates of each prunable space stay.

    A layer whose parts cost more counts as one, since `whole` makes it so.
    """

    @staticmethod
    def of(channels: Channels) -> Macs:
        """The cost model of an analysed program."""
        space_of, sizes, gates = space_of_coordinates(channels), sizes_of(channels), gates_of(channels)
        factors = [[rows_of(space_of[side], sizes) for side in (one.a, one.b)] for one in channels.products]
        rows = np.array(factors, dtype=np.float64).reshape(len(factors), 2, len(sizes) + 1)
        scale = np.array([one.scale for one in channels.products])
        ranks = [_factoring(channels, one.node) for one in channels.products]
        rank, first, middle, second = np.array(ranks, dtype=np.float64).reshape(len(ranks), 4).T
        return Macs(
            scale, rows[:, 0, -1], rows[:, 1, -1], rows[:, 0, :-1], rows[:, 1, :-1], sizes,
            rank.astype(np.int64), first, middle, second,
            np.array([gates.get(one.node, -1) for one in channels.products], dtype=np.int64), settled=True,
        )  # fmt: skip


def gates_of(channels: Channels) -> dict[str, int]:
    """By node: the number of the space of the branch that it goes with; nodes in none are not named."""
    places = {space.name: place for place, space in enumerate(channels.prunable)}
    return {node: places[one.space] for one in channels.branches for node in one.nodes}


def space_of_coordinates(channels: Channels) -> Tensor:
    """The number of the space of each coordinate, int64 [coordinates + 1]; one more than the last for -1, of none."""
    space_of = torch.full((channels.count + 1,), len(channels.prunable))
    for place, space in enumerate(channels.prunable):
        space_of[space.coordinates] = place
    return space_of


def sizes_of(channels: Channels) -> Counts:
    """The size of each prunable space."""
    return np.array([space.size for space in channels.prunable], dtype=np.int64)


def _factoring(channels: Channels, node: str) -> tuple[int, float, float, float]:
    """The number of the rank space of a node, and the cost of its parts."""
    found = next((one for one in channels.factorings if one.node == node), None)
    if found is None:
        return -1, 0.0, 0.0, 0.0
    names = [space.name for space in channels.prunable]
    return names.index(found.space), found.first, found.middle, found.second


def rows_of(spaces: Tensor, sizes: Counts) -> Array:
    """How many channels belong to a coordinate of each space; last, how many to none."""
    counts = np.bincount(spaces.numpy(), minlength=len(sizes) + 1).astype(np.float64)
    counts[:-1] /= sizes
    return counts


def counts_of(channels: Channels, keep: Mapping[str, tuple[int, ...]]) -> Counts:
    """How many coordinates of each prunable space stay."""
    return np.array([len(keep.get(space.name, range(space.size))) for space in channels.prunable], dtype=np.int64)


def total_macs(channels: Channels) -> int:
    """MACs of one sample through the network."""
    return Macs.of(channels).total()


def macs_of_space(channels: Channels) -> dict[str, int]:
    """By space: the MACs that would vanish if all of it went."""
    model = Macs.of(channels)
    whole = model.total()
    return {
        space.name: whole - round(float(model.along(model.sizes, place)[0]))
        for place, space in enumerate(channels.prunable)
    }


def prunable_share(channels: Channels) -> float:
    """The share of MACs in layers, and in attention, that lie on a prunable space."""
    model = Macs.of(channels)
    if not len(model.scale):
        return 0.0
    each = model.by_product(model.sizes)
    return float(each[(model.a_rows.any(1)) | (model.b_rows.any(1))].sum() / each.sum())


def macs_of_node(channels: Channels) -> dict[str, float]:
    """By node: its MACs a sample in the dense network."""
    found: dict[str, float] = {}
    for one in channels.products:
        found[one.node] = found.get(one.node, 0.0) + one.macs
    return found
