"""Labels of operators along one axis: mean, sum, max …; softmax, cumsum …

Over an axis without channels labels are unchanged. Over the channels the operators run on the kept ones (`Walk.over`),
as a norm does.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

from ..interpreter import Rule, Walk, name_of
from ..labels import varying
from .contraction import argument

aten = torch.ops.aten


def reduction(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of mean, sum, amax, norm … over some axes."""
    labels = walk.value(node.args[0])
    axes = set(varying(labels))
    folded = _folded(node, labels.dim())
    if axes and axes <= folded:
        return _over(walk, node, labels)
    labels = walk.labels.tie(labels, axes & folded)
    first = labels[tuple(slice(0, 1) if axis in folded else slice(None) for axis in range(labels.dim()))]
    if not argument(node, "keepdim", False):
        first = first[tuple(0 if axis in folded else slice(None) for axis in range(labels.dim()))]
    settled = walk.settle(first)
    value = walk.examples[node]
    return settled if isinstance(value, Tensor) else [settled for _ in value]


def _over(walk: Walk, node: fx.Node, labels: Tensor) -> Any:
    """Return labels reduced over channels; of max and its place only max is readable."""
    read = [user for user in node.users if user.target is operator.getitem and user.args[1] != 0]
    if read or node.target.overloadpacket in INDICES:  # type: ignore[union-attr]
        return walk.opaque(node, f"{name_of(node)} gives places along the channel axis")
    walk.vector(labels, max(varying(labels), key=lambda axis: labels.shape[axis]))
    walk.over.append(node)
    return walk.fixed_like(node)


def along_axis(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of a softmax, unchanged in shape."""
    labels = walk.value(node.args[0])
    axis = int(argument(node, "dim")) % labels.dim()
    axes = varying(labels)
    if axes == [axis]:
        walk.over.append(node)
    elif axis in axes:
        labels = walk.labels.tie(labels, [axis])
    return walk.settle(labels)


def ordered(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of cumsum, sort, whose axis may hold no channels."""
    labels = walk.value(node.args[0])
    if int(argument(node, "dim", -1)) % labels.dim() in varying(labels):
        return walk.opaque(node, f"{name_of(node)} is taken along the channel axis")
    value = walk.examples[node]
    return labels if isinstance(value, Tensor) else [labels for _ in value]


def _folded(node: fx.Node, rank: int) -> set[int]:
    axes = argument(node, "dim", None)
    chosen = range(rank) if axes is None or axes == [] else [axes] if isinstance(axes, int) else axes
    return {axis % rank for axis in chosen}


INDICES = {aten.argmax, aten.argmin}
REDUCTIONS = "mean sum amax amin var std max min argmax argmin linalg_vector_norm norm logsumexp prod any all"
RULES: dict[Any, Rule] = {
    **{getattr(aten, name): reduction for name in REDUCTIONS.split()},
    **dict.fromkeys((aten.softmax, aten._softmax, aten.log_softmax, aten._log_softmax), along_axis),
    **dict.fromkeys((aten.cumsum, aten.cumprod, aten.sort), ordered),
}
