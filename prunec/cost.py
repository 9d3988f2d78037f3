"""What a network costs: MACs = sum over contractions of positions · taps · outputs · inputs / groups.

One MAC is one multiplication with its addition; biases, activations, pooling and folded batch norms count nothing (the
convention of the papers). With keep counts n the sum is bilinear: each factor is fixed + sum_s n_s · rows of space s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .channels.spaces import Channels, Contraction

Counts = npt.NDArray[np.int64]  # coordinates kept of each prunable space
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Macs:
    """MACs of one sample as a function of how many coordinates of each prunable space stay."""

    scale: Array  # [contractions]: positions · taps / groups, or · width where whole groups go
    fixed_out: Array  # [contractions]: output channels that belong to no prunable space
    fixed_in: Array
    out_rows: Array  # [contractions, spaces]: output channels a coordinate
    in_rows: Array
    sizes: Counts  # [spaces]

    @staticmethod
    def of(channels: Channels) -> Macs:
        """The cost model of an analysed program."""
        space_of = torch.full((channels.count + 1,), len(channels.prunable))
        for place, space in enumerate(channels.prunable):
            space_of[space.coordinates] = place
        sizes = np.array([space.size for space in channels.prunable], dtype=np.int64)
        alone = np.append(np.zeros(len(sizes)), 1.0)  # each output reads its own group, whatever is kept
        scale, outs, ins = [], [], []
        for one in channels.contractions:
            outs.append(_rows(space_of[one.outputs], sizes))
            ins.append(alone if one.by_group else _rows(space_of[one.inputs], sizes))
            scale.append(one.positions * one.taps * (one.width if one.by_group else 1 / one.groups))
        out, into = (np.array(rows, dtype=np.float64).reshape(len(scale), len(sizes) + 1) for rows in (outs, ins))
        return Macs(np.array(scale), out[:, -1], into[:, -1], out[:, :-1], into[:, :-1], sizes)

    def total(self, counts: Counts | None = None) -> int:
        """MACs with `counts` coordinates kept; of the dense network without."""
        return round(float(self.by_contraction(self.sizes if counts is None else counts).sum()))

    def by_contraction(self, counts: Counts) -> Array:
        """MACs of each contraction."""
        product: Array = (
            self.scale * (self.fixed_out + self.out_rows @ counts) * (self.fixed_in + self.in_rows @ counts)
        )
        return product

    def along(self, counts: Counts, space: int) -> Array:
        """MACs of the network with 0, 1, … size coordinates of one space kept, the others as in `counts`."""
        others = counts.copy()
        others[space] = 0
        steps = np.arange(self.sizes[space] + 1)
        rows = (self.out_rows[:, space] != 0) | (self.in_rows[:, space] != 0)
        rest = self.by_contraction(others)[~rows].sum()
        out = (self.fixed_out + self.out_rows @ others)[rows, None] + self.out_rows[rows, space, None] * steps
        into = (self.fixed_in + self.in_rows @ others)[rows, None] + self.in_rows[rows, space, None] * steps
        curve: Array = rest + (self.scale[rows, None] * out * into).sum(0)
        return curve


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
    """By space: the MACs of the contractions that would vanish if all of it went."""
    model = Macs.of(channels)
    whole = model.total()
    return {
        space.name: whole - round(float(model.along(model.sizes, place)[0]))
        for place, space in enumerate(channels.prunable)
    }


def prunable_share(channels: Channels) -> float:
    """The share of MACs in contractions that read or write a prunable space."""
    model = Macs.of(channels)
    if not len(model.scale):
        return 0.0
    each = model.by_contraction(model.sizes)
    return float(each[(model.out_rows.any(1)) | (model.in_rows.any(1))].sum() / each.sum())


def contraction_macs(one: Contraction) -> int:
    """MACs of one contraction of the dense network."""
    return one.positions * one.taps * len(one.outputs) * one.width
