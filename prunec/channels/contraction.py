"""Convolution and linear layers: consume the labels of the contracted axis, produce new ones.

A grouped convolution stays rectangular in one of two ways, whichever leaves more coordinates: whole groups are removed
(a depthwise convolution is the extreme case: its channels pass through), or the same places of every group.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from .labels import Labels
from .spaces import CARRIES, CONSUMES, PRODUCES
from .walk import Rule, Walk

aten = torch.ops.aten
FIXED_GROUP = "it shares a convolution group with a channel that is fixed"


def argument(node: fx.Node, name: str) -> Any:
    """The argument of `node` called `name` in its operator's schema, or the default."""
    schema = node.target._schema  # type: ignore[union-attr]
    for place, item in enumerate(schema.arguments):
        if item.name == name:
            given = node.args[place] if place < len(node.args) else node.kwargs.get(name)
            return given if given is not None or place < len(node.args) else item.default_value
    raise KeyError(name)


def convolution(walk: Walk, node: fx.Node) -> Any:
    """conv1d, conv2d and conv3d, any groups, stride, padding and dilation."""
    weight, bias = argument(node, "weight"), argument(node, "bias")
    inputs = walk.vector(walk.value(node.args[0]), 1)
    if inputs is None or not _is_parameter(weight) or not _is_parameter(bias, optional=True):
        return walk.opaque(node, "its convolution has a computed weight, or mixes its channels with space")
    groups = int(argument(node, "groups"))
    return _contract(walk, node, weight, bias, inputs, groups, axis=1)


def linear(walk: Walk, node: fx.Node) -> Any:
    """A linear layer over the last axis."""
    weight, bias = argument(node, "weight"), argument(node, "bias")
    source = walk.value(node.args[0])
    inputs = walk.vector(source, source.dim() - 1)
    if inputs is None or not _is_parameter(weight) or not _is_parameter(bias, optional=True):
        return walk.opaque(node, "its linear layer has a computed weight, or is applied across the channels")
    return _contract(walk, node, weight, bias, inputs, 1, axis=source.dim() - 1)


def _contract(walk: Walk, node: fx.Node, weight: fx.Node, bias: Any, inputs: Tensor, groups: int, axis: int) -> Any:
    count, width = walk.examples[weight].shape[:2]
    by_group = groups > 1 and groups >= width
    if by_group:
        outputs = _tie_within_groups(walk.labels, inputs.reshape(groups, width)).repeat_interleave(count // groups)
    else:
        places = _tie_across_groups(walk.labels, inputs.reshape(groups, width))
        outputs = walk.labels.fresh(count // groups).repeat(groups)
        walk.touch(weight, 1, places, CONSUMES)
    role = CARRIES if by_group else PRODUCES
    walk.touch(weight, 0, outputs, role)
    walk.touch(bias, 0, outputs, role)
    walk.contracted.append((node, inputs, outputs, by_group))
    return walk.result(node, outputs, axis)


def _tie_within_groups(labels: Labels, inputs: Tensor) -> Tensor:
    first = inputs[:, :1].expand(inputs.shape)
    return labels.join(inputs, first, FIXED_GROUP)[:, 0]


def _tie_across_groups(labels: Labels, inputs: Tensor) -> Tensor:
    first = inputs[:1].expand(inputs.shape)
    return labels.join(inputs, first, FIXED_GROUP)[0] if len(inputs) > 1 else inputs[0]


def _is_parameter(node: Any, *, optional: bool = False) -> bool:
    return optional if node is None else isinstance(node, fx.Node) and node.op == "get_attr"


RULES: dict[Any, Rule] = {
    aten.conv1d: convolution,
    aten.conv2d: convolution,
    aten.conv3d: convolution,
    aten.linear: linear,
}
