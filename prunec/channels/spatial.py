"""Operators that work on each channel by itself (pooling, interpolation, batch norm) or fold an axis away (mean)."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from .contraction import argument
from .labels import varying
from .spaces import CARRIES
from .walk import Rule, Walk, name_of

aten = torch.ops.aten


def per_channel(rank: int) -> Rule:
    """Rule of an operator that changes the last `rank` axes of each channel by itself."""

    def rule(walk: Walk, node: fx.Node) -> Any:
        labels = walk.value(node.args[0])
        dim = labels.dim() - rank - 1
        vector = walk.vector(labels, dim)
        if vector is None:
            return walk.opaque(node, f"{name_of(node)} works along the channel axis")
        value = walk.examples[node]
        return walk.result(node, vector, dim) if isinstance(value, torch.Tensor) else [
            walk.settle(vector.reshape([-1 if axis == dim else 1 for axis in range(one.dim())]).expand(one.shape))
            for one in value
        ]  # fmt: skip

    return rule


def batch_norm(walk: Walk, node: fx.Node) -> Any:
    """Batch norm with stored statistics: its parameters carry the labels of axis 1."""
    labels = walk.value(node.args[0])
    vector = walk.vector(labels, 1)
    if vector is None or (argument_or(node, "training", False)):
        return walk.opaque(node, f"{name_of(node)} uses the statistics of the batch, or mixes channels")
    for name in ("weight", "bias", "running_mean", "running_var"):
        walk.touch(argument(node, name), 0, vector, CARRIES)
    return labels if isinstance(walk.examples[node], torch.Tensor) else [labels, *walk.fixed_like(node)[1:]]


def argument_or(node: fx.Node, name: str, default: Any) -> Any:
    """The argument `name`, or `default` where the operator has none of that name."""
    try:
        return argument(node, name)
    except KeyError:
        return default


def reduction(walk: Walk, node: fx.Node) -> Any:
    """mean, sum, max … over axes that hold no channels."""
    labels = walk.value(node.args[0])
    axes = argument_or(node, "dim", None)
    folded = range(labels.dim()) if axes is None or axes == [] else [axes] if isinstance(axes, int) else axes
    folded = {axis % labels.dim() for axis in folded}
    if folded & set(varying(labels)):
        return walk.opaque(node, f"{name_of(node)} is taken over the channel axis")
    first = labels[tuple(slice(0, 1) if axis in folded else slice(None) for axis in range(labels.dim()))]
    if not argument_or(node, "keepdim", False):
        first = first[tuple(0 if axis in folded else slice(None) for axis in range(labels.dim()))]
    settled = walk.settle(first)
    value = walk.examples[node]
    return settled if isinstance(value, torch.Tensor) else [settled for _ in value]


def along_axis(walk: Walk, node: fx.Node) -> Any:
    """softmax, cumsum: keep the shape, but mix along one axis."""
    labels = walk.value(node.args[0])
    if int(argument(node, "dim")) % labels.dim() in varying(labels):
        return walk.opaque(node, f"{name_of(node)} is taken over the channel axis")
    return labels


RULES: dict[Any, Rule] = {
    **{getattr(aten, f"{kind}_pool{rank}d"): per_channel(rank)
       for kind in ("max", "avg", "adaptive_avg", "adaptive_max") for rank in (1, 2, 3)
       if hasattr(aten, f"{kind}_pool{rank}d")},
    **{getattr(aten, f"_adaptive_avg_pool{rank}d"): per_channel(rank) for rank in (2, 3)},
    aten.max_pool2d_with_indices: per_channel(2),
    aten.upsample_nearest2d: per_channel(2),
    aten.upsample_bilinear2d: per_channel(2),
    aten.upsample_bicubic2d: per_channel(2),
    aten._upsample_bilinear2d_aa: per_channel(2),
    aten.batch_norm: batch_norm,
    aten._native_batch_norm_legit_no_training: batch_norm,
    **dict.fromkeys((aten.mean, aten.sum, aten.amax, aten.amin, aten.var, aten.std, aten.max, aten.min), reduction),
    **dict.fromkeys((aten.softmax, aten._softmax, aten.log_softmax, aten._log_softmax, aten.cumsum), along_axis),
}  # fmt: skip
