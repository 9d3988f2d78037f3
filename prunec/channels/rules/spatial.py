"""Labels of operators on single channels: pooling, interpolation, sampling, sliding windows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from ..interpreter import Rule, Walk, name_of
from ..labels import along
from .contraction import argument

aten = torch.ops.aten


def per_channel(rank: int) -> Rule:
    """Build the rule of an operator on the last `rank` axes of each channel."""

    def rule(walk: Walk, node: fx.Node) -> Any:
        labels = walk.value(node.args[0])
        dim = labels.dim() - rank - 1
        vector = walk.vector(labels, dim)
        if vector is None:
            return walk.opaque(node, f"{name_of(node)} works along the channel axis")
        value = walk.examples[node]
        if isinstance(value, Tensor):
            return walk.result(node, vector, dim)
        return [walk.settle(along(vector, dim, one.shape)) for one in value]

    return rule


def grid_sampler(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of grid sampling: channels pass, computed places are frozen."""
    source, grid, *_ = node.args
    walk.labels.freeze(walk.value(grid), "it says where to sample")
    vector = walk.vector(walk.value(source), 1)
    return walk.opaque(node, f"{name_of(node)} mixes channels with space") if vector is None else walk.result(
        node, vector, 1
    )  # fmt: skip


def unfold(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of im2col: [N, C, H, W] to [N, C·taps, L]."""
    vector = walk.vector(walk.value(node.args[0]), 1)
    if vector is None:
        return walk.opaque(node, f"{name_of(node)} mixes channels with space")
    return walk.result(node, vector.repeat_interleave(math.prod(argument(node, "kernel_size"))), 1)


def fold(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of col2im, [N, C·taps, L] to [N, C, H, W], taps joined."""
    vector = walk.vector(walk.value(node.args[0]), 1)
    if vector is None:
        return walk.opaque(node, f"{name_of(node)} mixes channels with space")
    taps = vector.reshape(-1, math.prod(argument(node, "kernel_size")))
    return walk.result(node, walk.labels.tie(taps, [1])[:, 0], 1)


POOLS = "max_pool avg_pool adaptive_avg_pool adaptive_max_pool _adaptive_avg_pool"
RESIZES = (
    "upsample_nearest upsample_linear upsample_bilinear upsample_bicubic upsample_trilinear _upsample_nearest_exact"
)
RULES: dict[Any, Rule] = {
    **{
        getattr(aten, f"{kind}{rank}d"): per_channel(rank)
        for kind in (POOLS + " " + RESIZES).split()
        for rank in (1, 2, 3)
        if hasattr(aten, f"{kind}{rank}d")
    },
    aten.max_pool2d_with_indices: per_channel(2),
    aten.max_pool3d_with_indices: per_channel(3),
    aten._upsample_bilinear2d_aa: per_channel(2),
    aten._upsample_bicubic2d_aa: per_channel(2),
    **{
        getattr(aten, f"{kind}_pad{rank}d"): per_channel(rank)
        for kind in ("reflection", "replication")
        for rank in (1, 2, 3)
    },
    aten.grid_sampler: grid_sampler,
    aten.grid_sampler_2d: grid_sampler,
    aten.im2col: unfold,
    aten.col2im: fold,
}
