"""Elementwise operators join the labels that meet, broadcasting as PyTorch does.

Residual adds, gates, layer scale and PReLU all fall out of this one rule. An operand of size 1 along the channel axis
(a scalar, a spatial mask) says nothing about channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from .labels import fixed, varying
from .walk import Rule, Walk, is_uniform, name_of, overload_packet

aten = torch.ops.aten
EXTRA_NAMES = """
    dropout prelu _prelu_kernel relu6 hardtanh hardswish hardsigmoid silu gelu elu selu mish softplus leaky_relu rrelu
    celu where to _to_copy clone contiguous alias detach zeros_like ones_like alpha_dropout feature_dropout
    lift_fresh_copy
"""
EXTRA = {getattr(aten, name) for name in EXTRA_NAMES.split()}  # elementwise, though not tagged so


def is_elementwise(node: fx.Node) -> bool:
    """Whether each element of the result depends on the elements at the same place only."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return torch.Tag.pointwise in node.target.tags or overload_packet(node) in EXTRA


def elementwise(walk: Walk, node: fx.Node) -> Any:
    """Join the operands' labels in the shape of the result."""
    shape = walk.examples[node].shape
    operands = [walk.value(source) for source in node.all_input_nodes if isinstance(walk.examples[source], Tensor)]
    if not operands:
        return fixed(shape)
    if overload_packet(node) in (aten.prelu, aten._prelu_kernel) and len(operands) > 1 and operands[1].dim() == 1:
        operands[1] = operands[1].reshape(-1, *[1] * (len(shape) - 2))
    return join(walk, operands, shape, f"{name_of(node)} joins it with a channel that is fixed")


def join(walk: Walk, operands: list[Tensor], shape: torch.Size, reason: str) -> Tensor:
    """The labels of a value of `shape` made elementwise from `operands`."""
    axes = {axis - one.dim() for one in operands for axis in varying(one)}  # counted from the right
    if len(axes) > 1:
        for one in operands:
            walk.labels.freeze(one, "it meets another channel axis in an outer product")
        return fixed(shape)
    result: Tensor | None = None
    for one in operands:
        if _says_nothing(one, axes):
            walk.labels.freeze(one, "a tensor with this single channel is broadcast over others")
            continue
        wide = one.expand(shape)
        result = wide if result is None else walk.labels.join(result, wide, reason)
    return walk.settle(result) if result is not None else fixed(shape)


def _says_nothing(labels: Tensor, axes: set[int]) -> bool:
    if not is_uniform(labels) or not axes:
        return False
    (axis,) = axes
    return -axis > labels.dim() or labels.shape[axis] == 1


def rule_of(node: fx.Node) -> Rule | None:
    """The elementwise rule where it applies."""
    return elementwise if is_elementwise(node) else None
