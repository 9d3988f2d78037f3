"""Labels of elementwise operators: operands join, with PyTorch's broadcasting.

This one rule covers residual adds, gates, layer scale and PReLU. An operand of size 1 along the channel axis (a scalar,
a spatial mask) leaves the channels free.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from ..interpreter import Rule, Walk, name_of, overload_packet
from ..labels import distinct, fixed, varying

aten = torch.ops.aten
EXTRA_NAMES = """
    dropout prelu _prelu_kernel relu6 hardtanh hardswish hardsigmoid silu gelu elu selu mish softplus leaky_relu rrelu
    celu where to _to_copy copy clone contiguous alias detach zeros_like ones_like full_like empty_like rand_like
    randn_like randint_like bernoulli alpha_dropout feature_dropout lift_fresh_copy fill expand_as
"""
OUTER = "it meets another channel axis in an outer product"
SINGLE = "a tensor with this single channel is broadcast over others"
EXTRA = {getattr(aten, name) for name in EXTRA_NAMES.split()}  # elementwise, though not tagged so


def is_elementwise(node: fx.Node) -> bool:
    """Return whether each result element depends only on elements at its place."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return torch.Tag.pointwise in node.target.tags or overload_packet(node) in EXTRA


def elementwise(walk: Walk, node: fx.Node) -> Any:
    """Join the operands' labels in the shape of the result."""
    shape = walk.examples[node].shape
    sources = [source for source in node.all_input_nodes if isinstance(walk.examples[source], Tensor)]
    flowing = {source: walk.value(source) for source in sources if source.op != "get_attr"}
    axes = {axis - one.dim() for one in flowing.values() for axis in varying(one)}  # counted from the right
    operands = []
    for source in sources:
        if source in flowing:
            operands.append(flowing[source])
        elif overload_packet(node) in (aten.prelu, aten._prelu_kernel) and node.args[1] is source:
            operands.append(walk.bare(source, {-1}).reshape(-1, *[1] * (len(shape) - 2)))
        else:
            operands.append(walk.bare(source, axes))
    return join(walk, operands, shape, f"{name_of(node)} joins it with a channel that is fixed")


def join(walk: Walk, operands: list[Tensor], shape: torch.Size, reason: str) -> Tensor:
    """Return the labels of a value of `shape` made elementwise from `operands`.

    An operand without channels has no effect where it is broadcast along them, and fixes them where it is not. Where
    two lie along different axes (an outer product) the one with more channels wins.
    """
    leader = max(operands, key=lambda one: _rank(one, operands), default=None)
    if leader is None or not (axes := _axes(leader)):
        return fixed(shape)
    result, blocked = leader.expand(shape), set[int]()
    for one in (one for one in operands if one is not leader):
        spanned = {axis for axis in axes if -axis <= one.dim() and (one.shape[axis] > 1 or shape[axis] == 1)}
        if _axes(one) and _axes(one) <= axes:
            result = walk.labels.join(result, one.expand(shape), reason)
            continue
        walk.labels.freeze(one, OUTER if _axes(one) else SINGLE)
        if spanned == axes:
            walk.labels.freeze(result, reason)
        elif spanned:
            blocked |= spanned
    return walk.settle(walk.labels.tie(result, [axis % len(shape) for axis in blocked]))


def _axes(labels: Tensor) -> set[int]:
    return {axis - labels.dim() for axis in varying(labels)}


def _rank(labels: Tensor, operands: list[Tensor]) -> tuple[int, int, int]:
    """Return a rank of an operand: axes spanned, own axes, channels."""
    axes = set().union(*(_axes(one) for one in operands))
    spanned = sum(-axis <= labels.dim() and labels.shape[axis] > 1 for axis in axes) if _axes(labels) else -1
    return spanned, len(_axes(labels)), max((distinct(labels, axis) for axis in varying(labels)), default=0)


def rule_of(node: fx.Node) -> Rule | None:
    """Return the elementwise rule where it applies."""
    return elementwise if is_elementwise(node) else None
