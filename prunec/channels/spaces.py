"""Define the result of channel analysis: spaces, sites, contractions, costs, and channel axes.

A *coordinate* is a set of channels that are removed together; coordinates touched by the same parameters in the same
way form a *space*. Coordinates are numbered through all prunable spaces; -1 marks a channel that cannot be removed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

PRODUCES, CARRIES, CONSUMES = "produces", "carries", "consumes"


@dataclass(frozen=True)
class Site:
    """Place of a space in a parameter: coordinate i owns `rows[i]` of `dim`."""

    parameter: str
    dim: int
    role: str  # PRODUCES, CARRIES or CONSUMES
    rows: Tensor  # int64 [size, r]


@dataclass(frozen=True)
class Space:
    """Coordinates to choose from together; `frozen` is the reason if none may be removed."""

    name: str
    size: int
    sites: tuple[Site, ...]
    frozen: str | None
    start: int  # number of the first coordinate; -1 where frozen
    renormalised: bool = False  # a norm, softmax, mean or product of activations runs over them
    least: int = 1  # fewest coordinates to keep
    step: int = 1  # the kept count is a multiple of this, or all

    @property
    def coordinates(self) -> Tensor:
        """Numbers of the coordinates, int64 [size]."""
        return torch.arange(self.start, self.start + self.size)

    def may_keep(self, count: int) -> bool:
        """Return whether `count` coordinates may be kept: all, or enough and a multiple of the step."""
        return count == self.size or (self.least <= count < self.size and count % self.step == 0)

    @property
    def fewest(self) -> int:
        """Smallest count that may be kept."""
        return min(self.size, -(-self.least // self.step) * self.step)


@dataclass(frozen=True)
class Contraction:
    """A convolution or linear node. Its weight is [O, I/groups, taps…], or [I, O/groups, taps…] where transposed."""

    node: str
    weight: str
    bias: str | None
    groups: int
    taps: int  # kernel positions, k·k
    inputs: Tensor  # coordinate of each input channel, int64 [I]
    outputs: Tensor  # coordinate of each output channel, int64 [O]
    by_group: bool  # whole groups are removed (depthwise); channels are not mixed
    transposed: bool = False

    @property
    def width(self) -> int:
        """Input channels per group."""
        return len(self.inputs) // self.groups


@dataclass(frozen=True)
class Product:
    """Cost of a node: `scale` MACs per sample and pair of kept coordinates of `a` and `b`."""

    node: str
    scale: float
    a: Tensor
    b: Tensor

    @property
    def macs(self) -> float:
        """MACs of the dense network, per sample."""
        return self.scale * len(self.a) * len(self.b)


@dataclass(frozen=True)
class Split:
    """Factoring of a kernel in two: by axis, whether the first layer has its taps.

    With `then`, the second layer is split in the same way, at the same rank: its kernel has one tap on the axes of the
    first.
    """

    kernel: tuple[int, ...]
    first: tuple[bool, ...]
    then: Split | None = None

    @property
    def taps(self) -> tuple[int, int]:
        """Kernel positions of the first and of the second layer."""
        sizes = [k if mine else 1 for k, mine in zip(self.kernel, self.first, strict=True)]
        return math.prod(sizes), math.prod(self.kernel) // math.prod(sizes)

    @property
    def layers(self) -> tuple[tuple[bool, ...], ...]:
        """Presence of taps, stride and padding, by layer and kernel axis."""
        rest = tuple(not mine for mine in self.first)
        if self.then is None:
            return self.first, rest
        return self.first, *[tuple(map(all, zip(layer, rest, strict=True))) for layer in self.then.layers]

    def highest(self, inputs: int, outputs: int) -> int:
        """Return the highest rank of a weight between `inputs` and `outputs` channels."""
        first, second = self.taps
        full = min(inputs * first, outputs * second)
        return full if self.then is None else min(full, self.then.highest(full, outputs))


@dataclass(frozen=True)
class Factoring:
    """A layer that becomes several below full rank, with a rank space between them.

    With r coordinates it costs r · (`first` · inputs + `middle` · r + `second` · outputs) MACs per sample.
    """

    node: str
    space: str
    split: Split
    first: float
    second: float
    middle: float = 0.0

    def rank_of(self, macs: float, inputs: int, outputs: int) -> float:
        """Return the fractional rank at which the parts cost `macs`."""
        linear = self.first * inputs + self.second * outputs
        return 2 * macs / (linear + math.sqrt(linear**2 + 4 * self.middle * macs))


@dataclass(frozen=True)
class Branch:
    """A removable residual branch, one coordinate in a space without sites.

    If removed, the node `add` becomes the value of `shortcut`, and `nodes` and `parameters` are unused.
    """

    space: str
    add: str
    shortcut: str
    nodes: frozenset[str]
    parameters: frozenset[str]


@dataclass(frozen=True)
class Axis:
    """The channel dimension of a value, with the coordinate at each place."""

    dim: int
    coordinates: Tensor  # int64, one for each place
    rank: int  # dimensions of the value


@dataclass(frozen=True)
class Channels:
    """Channel analysis of one program. Node names are those of its graph."""

    spaces: tuple[Space, ...]
    contractions: tuple[Contraction, ...]
    products: tuple[Product, ...]  # what the contractions and the products of activations cost
    values: Mapping[str, Axis | tuple[Axis | None, ...]]  # nodes whose value has a prunable channel axis
    parameters: Mapping[tuple[str, int], Tensor]  # coordinate of each row of a parameter's dimension
    reads: frozenset[str] = frozenset()  # nodes that mix their channels
    over: frozenset[str] = frozenset()  # nodes that normalise or reduce over their channels
    factorings: tuple[Factoring, ...] = ()  # each has a space without sites
    branches: tuple[Branch, ...] = ()  # likewise

    @property
    def prunable(self) -> tuple[Space, ...]:
        """Spaces with removable coordinates."""
        return tuple(space for space in self.spaces if space.frozen is None)

    @property
    def count(self) -> int:
        """Number of coordinates in all prunable spaces."""
        return sum(space.size for space in self.prunable)

    def inside(self, branch: Branch) -> frozenset[str]:
        """Return the names of the spaces that lie entirely within a branch."""
        split = {one.space for one in self.factorings if one.node in branch.nodes}
        own = (
            space.name
            for space in self.prunable
            if space.sites and all(site.parameter in branch.parameters for site in space.sites)
        )
        return frozenset(split.union(own))

    def kind_of(self, space: Space) -> str:
        """Return the kind of a space's coordinates: `channels`, `ranks`, or `branch` (one coordinate)."""
        if space.sites:
            return "channels"
        return "branch" if any(one.space == space.name for one in self.branches) else "ranks"

    def mask(self, keep: Mapping[str, tuple[int, ...]]) -> Tensor:
        """Return the kept coordinates, bool [count + 1]; the last, for index -1, is True.

        A space that `keep` does not name is kept whole.
        """
        mask = torch.ones(self.count + 1, dtype=torch.bool)
        for space in self.prunable:
            if space.name in keep:
                mask[space.coordinates] = False
                mask[space.start + torch.tensor(keep[space.name], dtype=torch.int64)] = True
        return mask
