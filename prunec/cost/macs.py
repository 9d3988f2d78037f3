"""Count MACs: the sum over layers of positions · taps · outputs · inputs / groups, and over attention.

One MAC is one multiplication with its addition; biases, activations, pooling and folded batch norms count nothing (the
convention of the papers). With keep counts n the sum is bilinear: each factor is fixed + sum_s n_s · rows of space s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..channels.spaces import Channels
from .builder import Builder
from .terms import Array, Cost, Counts, Terms

__all__ = ["Cost", "Counts", "Macs"]


@dataclass(frozen=True)
class Macs(Terms):
    """MACs of one sample, each layer whole or in parts, whichever costs less.

    `drop_useless_ranks` makes the counts match.
    """

    def _cost(self, out: Array, into: Array, rank: Array | Counts) -> Array:
        found, whole = super()._cost(out, into, rank), self.scale[:, None] * out * into
        least: Array = np.minimum(found, whole)
        return least

    @staticmethod
    def of(channels: Channels) -> Macs:
        """Return the cost model of an analysed program: a term for each product."""
        build, factorings = Builder(channels), {one.node: one for one in channels.factorings}
        for one in channels.products:
            build.add(one.scale, one.a, one.b, factorings.get(one.node), gate=build.gates.get(one.node))
        return Macs(tuple(build.found), build.sizes)


def counts_of(channels: Channels, keep: Mapping[str, tuple[int, ...]]) -> Counts:
    """Count the coordinates kept of each prunable space, int64 [spaces]."""
    return np.array([len(keep.get(space.name, range(space.size))) for space in channels.prunable], dtype=np.int64)


def total_macs(channels: Channels) -> int:
    """Count the MACs of one sample."""
    return Macs.of(channels).total()


def macs_of_space(channels: Channels) -> dict[str, int]:
    """Return the MACs that removing each space would save, by space."""
    model = Macs.of(channels)
    whole = model.total()
    return {
        space.name: whole - round(float(model.along(model.sizes, place)[0]))
        for place, space in enumerate(channels.prunable)
    }


def prunable_share(channels: Channels) -> float:
    """Return the share of MACs on a prunable space or in a removable branch."""
    model = Macs.of(channels)
    if not model.terms:
        return 0.0
    each = model.by_product(model.sizes)
    reached = model.rows[:, :, :-1].any((0, 2)) | np.array([one.gate is not None for one in model.terms])
    return float(each[reached].sum() / each.sum())


def macs_of_node(channels: Channels) -> dict[str, float]:
    """Return the MACs of each node, per sample, in the dense network."""
    found: dict[str, float] = {}
    for one in channels.products:
        found[one.node] = found.get(one.node, 0.0) + one.macs
    return found
