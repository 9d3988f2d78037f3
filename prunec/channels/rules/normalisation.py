"""Labels of norms: kept per channel, normalised over the kept channels.

A group norm is exact for whole groups. A layer norm, or a group norm of one group, runs over the pruned axis: removal
is not zeroing there, so the interpreter notes the operator (`over`) and the identity normalises over the kept channels
too (DESIGN, law 2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from ..interpreter import Rule, Walk, name_of
from ..labels import varying
from ..spaces import CARRIES
from .contraction import argument, tie_across_groups, tie_within_groups

aten = torch.ops.aten


def batch_norm(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of a batch norm, or instance norm: its parameters join axis 1."""
    labels = walk.value(node.args[0])
    vector = walk.vector(labels, 1)
    if vector is None or argument(node, "training", False):
        return walk.opaque(node, f"{name_of(node)} uses the statistics of the batch, or mixes channels")
    for name in ("weight", "bias", "running_mean", "running_var"):
        walk.touch(argument(node, name), 0, vector, CARRIES)
    settled = walk.settle(labels)
    return settled if isinstance(walk.examples[node], Tensor) else [settled, *walk.fixed_like(node)[1:]]


def group_norm(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of a group norm: whole groups, or the same places of all."""
    vector = walk.vector(walk.value(node.args[0]), 1)
    if vector is None:
        return walk.opaque(node, f"{name_of(node)} mixes channels with space")
    groups = int(argument(node, "num_groups"))
    grid = walk.labels.find(vector).reshape(groups, -1)
    if len(grid[:, 0].unique()) > 1:
        kept = tie_within_groups(walk.labels, grid)[:, None].expand(grid.shape).flatten()
    else:
        kept = tie_across_groups(walk.labels, grid).repeat(groups)
        walk.over.append(node)
    for name in ("weight", "bias"):
        walk.touch(argument(node, name), 0, kept, CARRIES)
    return walk.result(node, kept, 1)


def layer_norm(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of a layer norm or RMS norm over the last axes."""
    labels = walk.value(node.args[0])
    folded = len(argument(node, "normalized_shape"))
    axes = varying(labels)
    inside = [axis for axis in axes if axis >= labels.dim() - folded]
    if inside:
        axis = inside[-1]
        vector = walk.vector(labels, axis)
        assert vector is not None
        walk.over.append(node)
        for name in ("weight", "bias"):
            walk.touch(argument(node, name, None), axis - labels.dim() + folded, vector, CARRIES)
    settled = walk.settle(labels)
    return settled if isinstance(walk.examples[node], Tensor) else [settled, *walk.fixed_like(node)[1:]]


RULES: dict[Any, Rule] = {
    aten.batch_norm: batch_norm,
    aten._native_batch_norm_legit_no_training: batch_norm,
    aten.instance_norm: batch_norm,
    aten.group_norm: group_norm,
    **dict.fromkeys((aten.layer_norm, aten.native_layer_norm, aten.rms_norm), layer_norm),
}
