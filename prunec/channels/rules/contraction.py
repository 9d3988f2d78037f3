"""Labels of convolution and linear layers: consume the contracted axis, produce a new one.

A grouped convolution remains rectangular in one of two ways, whichever leaves more coordinates: removal of whole groups
(a depthwise convolution is the extreme case: its channels pass through), or of the same places in every group.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from ..interpreter import Mixed, Rule, Walk
from ..labels import Labels, distinct, varying
from ..spaces import CARRIES, CONSUMES, PRODUCES

aten = torch.ops.aten
NO_BATCH = "its layer reads a value without a batch: write x.flatten(1) for x.flatten(), and keep the first dimension"
FIXED_GROUP = "it shares a convolution group with a channel that is fixed"


def argument(node: fx.Node, name: str, *otherwise: Any) -> Any:
    """Return the argument `name` of `node`, or its default in the schema.

    Returns `otherwise`, if given, for an operator without that argument; else raises KeyError.
    """
    schema = node.target._schema  # type: ignore[union-attr]
    for place, item in enumerate(schema.arguments):
        if item.name == name:
            given = node.args[place] if place < len(node.args) else node.kwargs.get(name)
            return given if given is not None or place < len(node.args) else item.default_value
    if otherwise:
        return otherwise[0]
    raise KeyError(name)


def is_transposed(node: fx.Node) -> bool:
    """Return whether a convolution is a transposed one, whose weight is [I, O/groups, *kernel]."""
    packet = getattr(node.target, "overloadpacket", None)
    return packet in TRANSPOSED or (packet is aten.convolution and bool(argument(node, "transposed")))


def convolution(walk: Walk, node: fx.Node) -> Any:
    """Return the output labels of a 1d to 3d convolution, transposed or not."""
    weight, bias = argument(node, "weight"), argument(node, "bias")
    source, groups = walk.value(node.args[0]), argument(node, "groups")
    transposed, shape = is_transposed(node), walk.examples[weight].shape
    spread: Any = node.args[0] if transposed else node  # each entry of it is multiplied by a row of the weight
    macs = walk.examples[spread].numel() * math.prod(shape[1:])
    if not isinstance(groups, int):
        walk.product(node, macs)
        return walk.opaque(node, "its convolution has a group for each sample, with kernels of its own")
    if source.dim() < len(shape):
        walk.product(node, macs)
        return walk.opaque(node, NO_BATCH)
    if not transposed and _is_along_channels(walk, node, source):
        return _along_channels(walk, node, source, macs)
    inputs = walk.vector(source, 1)
    if inputs is None or not _is_parameter(weight) or not _is_parameter(bias, optional=True):
        walk.product(node, macs)
        return walk.opaque(node, "its convolution has a computed weight, or mixes its channels with space")
    outputs = _contract(walk, node, inputs, groups, shape[1] * groups if transposed else shape[0])
    _cost(walk, node, macs)
    return walk.result(node, outputs, 1)


def _is_along_channels(walk: Walk, node: fx.Node, source: Tensor) -> bool:
    """Return whether a one-channel convolution slides along a channel axis: x [N, 1, C] to [N, 1, C], as in ECA."""
    weight, bias = argument(node, "weight"), argument(node, "bias")
    one = source.dim() == 3 and tuple(walk.examples[weight].shape[:2]) == (1, 1) and varying(source) == [2]
    alike = one and walk.examples[node].shape[2] == source.shape[2] and list(argument(node, "stride")) == [1]
    return alike and _is_parameter(weight) and _is_parameter(bias, optional=True)


def _along_channels(walk: Walk, node: fx.Node, source: Tensor, macs: int) -> Tensor:
    """Return the input labels: each output place belongs to its channel. A removed neighbour is read as zero."""
    walk.reads.append(node)
    return _per_channel(walk, node, source, 2, macs)


def linear(walk: Walk, node: fx.Node) -> Any:
    """Return the output labels of a linear layer over the last axis. Channels on another axis pass through."""
    weight, bias = argument(node, "weight"), argument(node, "bias")
    source = walk.value(node.args[0])
    macs, last = walk.examples[node].numel() * walk.examples[weight].shape[-1], source.dim() - 1
    if not _is_parameter(weight) or not _is_parameter(bias, optional=True):
        walk.product(node, macs)
        return walk.opaque(node, "its linear layer has a computed weight")
    if source.dim() < 2:
        walk.product(node, macs)
        return walk.opaque(node, NO_BATCH)
    inputs = None if _has_heads(source) else walk.vector(source, last)
    if inputs is None:
        return _across(walk, node, source, macs)
    outputs = _contract(walk, node, inputs, 1, len(walk.examples[weight]))
    _cost(walk, node, macs)
    return walk.result(node, outputs, last)


def _has_heads(labels: Tensor) -> bool:
    """Return whether [N, heads, tokens, width] has removable heads, which pass through the layer."""
    others = [axis for axis in varying(labels) if axis < labels.dim() - 1]
    return labels.dim() > 3 and any(distinct(labels, axis) == labels.shape[axis] for axis in others)


def _across(walk: Walk, node: fx.Node, source: Tensor, macs: int) -> Tensor:
    """Return the output labels of a linear layer over tokens, per channel."""
    axis = max((one for one in varying(source) if one < source.dim() - 1), key=lambda one: distinct(source, one))
    return _per_channel(walk, node, source, axis, macs)


def _per_channel(walk: Walk, node: fx.Node, source: Tensor, axis: int, macs: int) -> Tensor:
    vector = walk.vector(source, axis)
    assert vector is not None
    walk.product(node, macs, vector)
    for parameter in node.all_input_nodes[1:]:
        walk.pin(parameter)
    return walk.result(node, vector, axis)


def _cost(walk: Walk, node: fx.Node, macs: int) -> None:
    met = walk.mixed[-1]
    walk.product(node, macs, met.outputs, None if met.by_group else met.inputs)


def _contract(walk: Walk, node: fx.Node, inputs: Tensor, groups: int, count: int) -> Tensor:
    """Return the output labels of a layer with `count` outputs."""
    weight, bias = argument(node, "weight"), argument(node, "bias")
    width = len(inputs) // groups
    rows_in, rows_out = (0, 1) if is_transposed(node) else (1, 0)  # the weight's axes of inputs and of outputs
    by_group = groups > 1 and groups >= width
    if by_group:
        first = tie_within_groups(walk.labels, inputs.reshape(groups, width))
        outputs = first.repeat_interleave(count // groups)
        walk.touch(weight, 0, first.repeat_interleave(width) if rows_in == 0 else outputs, CARRIES)
        walk.touch(bias, 0, outputs, CARRIES)
    else:
        places = tie_across_groups(walk.labels, inputs.reshape(groups, width))
        new = walk.labels.fresh(count // groups)
        outputs = new.repeat(groups)
        walk.touch(weight, rows_in, places if rows_in else places.repeat(groups), CONSUMES)
        walk.touch(weight, rows_out, new if rows_out else outputs, PRODUCES)
        walk.touch(bias, 0, outputs, PRODUCES)
        walk.reads.append(node)
    walk.mixed.append(Mixed(node, inputs, outputs, by_group))
    return outputs


def tie_within_groups(labels: Labels, inputs: Tensor) -> Tensor:
    """Return one label per group, from labels [groups, width]."""
    first = inputs[:, :1].expand(inputs.shape)
    return labels.join(inputs, first, FIXED_GROUP)[:, 0]


def tie_across_groups(labels: Labels, inputs: Tensor) -> Tensor:
    """Return one label per place in all groups, from labels [groups, width]."""
    first = inputs[:1].expand(inputs.shape)
    return labels.join(inputs, first, FIXED_GROUP)[0] if len(inputs) > 1 else inputs[0]


def _is_parameter(node: Any, *, optional: bool = False) -> bool:
    return optional if node is None else isinstance(node, fx.Node) and node.op == "get_attr"


TRANSPOSED = (aten.conv_transpose1d, aten.conv_transpose2d, aten.conv_transpose3d)
RULES: dict[Any, Rule] = {
    aten.linear: linear,
    **dict.fromkeys((aten.conv1d, aten.conv2d, aten.conv3d, aten.convolution, *TRANSPOSED), convolution),
}
