"""Define the resources that a target may name, as costs of the keep counts.

MACs, parameters, bytes of weights, bytes of activations. A quantity is a sum of terms, or the largest of several sums:
activations are alive together at one step of the graph, and the step with most of them counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from torch import Tensor, fx

from ..channels.spaces import Channels
from ..ir import graph
from ..surgery.arguments import places_of
from .builder import Builder
from .macs import Macs
from .terms import Array, Cost, Counts, Terms


class Resource(Protocol):
    """Cost of the keep counts that a target may name: the largest of several sums."""

    @property
    def dense(self) -> int:
        """Return the cost of the dense network."""

    @property
    def steps(self) -> int:
        """Count the sums, of which the largest is the cost."""

    @property
    def cost(self) -> Cost:
        """Return the single cost; valid only if `steps == 1`."""

    def used(self, counts: Counts | None = None) -> Array:
        """Compute the cost of each step, [steps]; of the dense network without counts."""

    def total(self, counts: Counts | None = None) -> int:
        """Compute the cost of the worst step."""

    def weighted(self, weights: Array) -> Cost:
        """Sum the costs of the steps, each times its weight [steps]."""


@dataclass(frozen=True)
class Quantity:
    """`terms`, and the terms that each step sums: bool [steps, terms]."""

    kind: str
    terms: Terms
    together: Array
    extra: int = 0  # cost at full size that a sliced network has and the dense one lacks

    def used(self, counts: Counts | None = None) -> Array:
        """Compute the cost of each step, [steps]; of the dense network without counts."""
        each = Terms(self.terms.terms, self.terms.sizes).by_product(self.terms.sizes if counts is None else counts)
        found: Array = self.together @ each
        return found

    def total(self, counts: Counts | None = None) -> int:
        """Compute the cost of the worst step."""
        return round(float(self.used(counts).max(initial=0.0)))

    @cached_property
    def dense(self) -> int:
        """Return the cost of the dense network."""
        return self.total() - self.extra

    @property
    def steps(self) -> int:
        """Count the sums, of which the largest is the cost."""
        return len(self.together)

    @property
    def cost(self) -> Cost:
        """Return the single cost; valid only if `steps == 1`."""
        return self.terms

    def weighted(self, weights: Array) -> Terms:
        """Sum the costs of the steps, each times its weight [steps]."""
        return self.terms.scaled(weights @ self.together)


def macs(channels: Channels) -> Quantity:
    """Return the MACs of one sample."""
    return _single("macs", Macs.of(channels))


def parameters(channels: Channels, module: fx.GraphModule) -> Quantity:
    """Count the entries of all parameters. A batch norm folded into a layer counts as its bias."""
    read = _read(module)
    return _single(
        "params", _stored(channels, {name: (one, 1) for name, one in read.items() if one.is_floating_point()})
    )


def size(channels: Channels, module: fx.GraphModule) -> Quantity:
    """Return the bytes of all parameters and buffers, and of a sliced network's index tensors."""
    read = _read(module)
    stored = {name: (one, one.element_size()) for name, one in read.items()}
    picks = tuple(places_of(module, channels.values))
    found = _single("size", _stored(channels, stored, picks))
    return replace(found, extra=sum(len(coordinates) * entry for coordinates, entry in picks))


def _read(module: fx.GraphModule) -> dict[str, Tensor]:
    """Return the tensors that the graph reads."""
    return {name: graph.attribute(module, name) for name in graph.tensors_read(module)}


def _single(kind: str, terms: Terms) -> Quantity:
    return Quantity(kind, terms, np.ones((1, len(terms.terms))))


def _stored(
    channels: Channels, tensors: dict[str, tuple[Tensor, int]], picks: Sequence[tuple[Tensor, int]] = ()
) -> Terms:
    """Build a term for each stored tensor and each index.

    At most two dimensions of a tensor lose rows; further ones count as whole.
    """
    split = {}
    for one in channels.factorings:
        weight = next(each.weight for each in channels.contractions if each.node == one.node)
        split[weight] = one
    build = Builder(channels)
    gates = {name: build.names.index(one.space) for one in channels.branches for name in one.parameters}
    for name, (tensor, entry) in tensors.items():
        gate = gates.get(name)
        owned = [channels.parameters.get((name, dim)) for dim in range(tensor.dim())]
        sides = sorted((side for side in owned if side is not None), key=len)[-2:]
        rest = tensor.numel() / math.prod(len(side) for side in sides)
        found = split.get(name)
        if found is None:
            a, b = (*sides, None, None)[:2]
            build.add(entry * rest, a, b, gate=gate)
        else:
            taps = [math.prod(k for k, mine in zip(found.split.kernel, layer, strict=True) if mine)
                    for layer in found.split.layers]  # fmt: skip
            layer = next(each for each in channels.contractions if each.weight == name)
            costs = (entry * taps[0], entry * sum(taps[1:-1]), entry * taps[-1])
            build.add(entry * layer.taps, layer.outputs, layer.inputs, factoring=found, parts=costs, gate=gate)
    for coordinates, entry in picks:
        build.add(entry, coordinates)
    return build.terms()
