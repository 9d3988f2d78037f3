"""Weights of layers that read a space, as matrices for selectors.

For layers with very many columns (the first linear layer of a VGG) the covariance is taken between channels, with the
taps of a channel as further outputs: GRAIL's channel Gram instead of CaP's full kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from ..ir import graph
from .spaces import Channels, Contraction, Space

WIDEST = 6144  # columns of the largest full-kernel covariance


@dataclass(frozen=True)
class Blocks:
    """Grouping of a layer's columns: `channels` blocks of `taps` columns; taps folded if too many."""

    channels: int
    taps: int
    inputs: int  # entries of `Contraction.inputs` per channel: 1, or its positions after a flatten
    folded: bool

    @staticmethod
    def of(one: Contraction) -> Blocks:
        """Build the grouping of one contraction."""
        taps, inputs = (one.taps, 1) if one.taps > 1 else (_repeats(one),) * 2
        folded = one.width * one.taps > WIDEST and one.groups == 1 and taps > 1
        return Blocks(one.width // inputs, taps, inputs, folded)

    @property
    def columns(self) -> int:
        """Number of covariance columns."""
        return self.channels if self.folded else self.channels * self.taps

    def rows(self, z: Tensor) -> Tensor:
        """Reshape rows [R, g, C·taps] to [R·taps, g, C] if folded."""
        if not self.folded:
            return z
        count, groups, _ = z.shape
        return z.reshape(count, groups, -1, self.taps).permute(0, 3, 1, 2).reshape(count * self.taps, groups, -1)

    def weight(self, weight: Tensor) -> Tensor:
        """Reshape a weight [g, o, C·taps] to [g, o·taps, C] if folded."""
        if not self.folded:
            return weight
        groups, outputs, _ = weight.shape
        return weight.reshape(groups, outputs, -1, self.taps).transpose(2, 3).reshape(groups, outputs * self.taps, -1)


def _repeats(one: Contraction) -> int:
    """Return the number of consecutive columns per channel after a flatten; 1 if irregular."""
    _, counts = torch.unique_consecutive(one.inputs, return_counts=True)
    same = len(counts) > 1 and bool((counts == counts[0]).all()) and bool((one.inputs >= 0).all())
    return int(counts[0]) if same else 1


def groups_after(one: Contraction, mask: Tensor) -> int:
    """Return the groups of a contraction after the removal of channels by `mask`."""
    return int(mask[one.inputs].sum()) // one.width if one.by_group else one.groups


def weight_of(module: fx.GraphModule, one: Contraction) -> Tensor:
    """Return the weight of a contraction, float64 [g, O/g, C/g·taps] on the CPU."""
    return as_matrix(graph.numbers(module, one.weight), one, one.groups)


def as_matrix(weight: Tensor, one: Contraction, groups: int) -> Tensor:
    """Reshape a weight with `groups` remaining groups to [g, O/g, C/g·taps]."""
    if one.transposed:  # [I, O/g, *kernel]
        weight = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    return weight.reshape(groups, len(weight) // groups, -1)


def from_matrix(matrix: Tensor, one: Contraction, shape: torch.Size) -> Tensor:
    """Invert `as_matrix`: return the weight of `shape`."""
    if not one.transposed:
        return matrix.reshape(shape)
    groups, outputs, _ = matrix.shape
    return matrix.reshape(groups, outputs, -1, *shape[2:]).transpose(1, 2).reshape(shape)


def readers_of(channels: Channels, space: Space) -> list[Contraction]:
    """Return the contractions that mix the channels of a space."""
    wanted = space.coordinates
    return [one for one in channels.contractions if not one.by_group and bool(torch.isin(wanted, one.inputs).any())]


def columns_of(one: Contraction, space: Space) -> Tensor:
    """Return the covariance columns of each coordinate in a reader, int64 [size, b]."""
    blocks = Blocks.of(one)
    local = one.inputs[: one.width]
    owners = local[:: blocks.inputs]
    places = [(owners == coordinate).nonzero().flatten() for coordinate in space.coordinates]
    channels = torch.stack(places)  # [size, r]
    if blocks.folded:
        return channels
    return (channels[:, :, None] * blocks.taps + torch.arange(blocks.taps)).flatten(1)
