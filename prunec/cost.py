"""What a network costs: MACs = sum over layers of positions · taps · outputs · inputs / groups, and over attention.

One MAC is one multiplication with its addition; biases, activations, pooling and folded batch norms count nothing (the
convention of the papers). With keep counts n the sum is bilinear: each factor is fixed + sum_s n_s · rows of space s. A
layer that may be factored costs the least of itself and of its parts:

    min( scale · outputs · inputs,  rank · (first · inputs + middle · rank + second · outputs) )
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .channels.spaces import Channels

Counts = npt.NDArray[np.int64]  # coordinates kept of each prunable space
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Macs:
    """MACs of one sample as a function of how many coordinates of each prunable space stay."""

    scale: Array  # [products]: MACs for each pair of an entry of a and one of b
    fixed_a: Array  # [products]: entries that belong to no prunable space
    fixed_b: Array
    a_rows: Array  # [products, spaces]: entries a coordinate
    b_rows: Array
    sizes: Counts  # [spaces]
    rank: npt.NDArray[np.int64]  # [products]: the space of its rank; -1 where it is not factored
    first: Array  # [products]: MACs for each pair of an entry of b and a rank
    middle: Array  # [products]: of a rank and a rank
    second: Array  # [products]: of an entry of a and a rank

    @staticmethod
    def of(channels: Channels) -> Macs:
        """The cost model of an analysed program."""
        space_of = torch.full((channels.count + 1,), len(channels.prunable))
        for place, space in enumerate(channels.prunable):
            space_of[space.coordinates] = place
        sizes = np.array([space.size for space in channels.prunable], dtype=np.int64)
        factors = [[_rows(space_of[side], sizes) for side in (one.a, one.b)] for one in channels.products]
        rows = np.array(factors, dtype=np.float64).reshape(len(factors), 2, len(sizes) + 1)
        scale = np.array([one.scale for one in channels.products])
        ranks = [_factoring(channels, one.node) for one in channels.products]
        rank, first, middle, second = np.array(ranks, dtype=np.float64).reshape(len(ranks), 4).T
        return Macs(
            scale, rows[:, 0, -1], rows[:, 1, -1], rows[:, 0, :-1], rows[:, 1, :-1], sizes,
            rank.astype(np.int64), first, middle, second,
        )  # fmt: skip

    def total(self, counts: Counts | None = None) -> int:
        """MACs with `counts` coordinates kept; of the dense network without."""
        return round(float(self.by_product(self.sizes if counts is None else counts).sum()))

    def by_product(self, counts: Counts) -> Array:
        """MACs of each product."""
        every = np.ones(len(self.scale), dtype=bool)
        out, into = self.fixed_a + self.a_rows @ counts, self.fixed_b + self.b_rows @ counts
        return self._cost(every, out[:, None], into[:, None], np.append(counts, 0)[self.rank, None])[:, 0]

    def along(self, counts: Counts, space: int) -> Array:
        """MACs of the network with 0, 1, … size coordinates of one space kept, the others as in `counts`."""
        rest = self.by_product(counts)[~self._touched(space)].sum()
        curve: Array = rest + self.touched_along(counts, space)
        return curve

    def touched_along(self, counts: Counts, space: int) -> Array:
        """The same of the products alone that the space has a part in."""
        others = counts.copy()
        others[space] = 0
        steps = np.arange(self.sizes[space] + 1)
        rows = self._touched(space)
        out = (self.fixed_a + self.a_rows @ others)[rows, None] + self.a_rows[rows, space, None] * steps
        into = (self.fixed_b + self.b_rows @ others)[rows, None] + self.b_rows[rows, space, None] * steps
        rank = np.where(self.rank[rows, None] == space, steps, np.append(others, 0)[self.rank[rows], None])
        curve: Array = self._cost(rows, out, into, rank).sum(0)
        return curve

    def _touched(self, space: int) -> npt.NDArray[np.bool_]:
        rows: npt.NDArray[np.bool_] = (self.a_rows[:, space] != 0) | (self.b_rows[:, space] != 0) | (self.rank == space)
        return rows

    def whole(self, counts: Counts) -> Counts:
        """The counts with all of each rank that saves nothing: there the layer stays one."""
        settled = counts.copy()
        for space in np.unique(self.rank[self.rank >= 0]):
            curve = self.along(counts, space)
            if curve[counts[space]] >= curve[-1]:
                settled[space] = self.sizes[space]
        return settled

    def _cost(self, rows: npt.NDArray[np.bool_], out: Array, into: Array, rank: Array | Counts) -> Array:
        """MACs of some products with so many entries of a and of b, and so high a rank."""
        whole: Array = self.scale[rows, None] * out * into
        factored = self.rank[rows] >= 0
        if not factored.any():
            return whole
        size = np.append(self.sizes, 0)[self.rank[rows], None]
        sides = self.first[rows, None] * into + self.middle[rows, None] * rank + self.second[rows, None] * out
        least: Array = np.where(factored[:, None] & (rank < size), np.minimum(rank * sides, whole), whole)
        return least


def _factoring(channels: Channels, node: str) -> tuple[int, float, float, float]:
    """The number of the rank space of a node, and the cost of its parts."""
    found = next((one for one in channels.factorings if one.node == node), None)
    if found is None:
        return -1, 0.0, 0.0, 0.0
    names = [space.name for space in channels.prunable]
    return names.index(found.space), found.first, found.middle, found.second


def _rows(spaces: Tensor, sizes: Counts) -> Array:
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
