"""Check channel analysis by a trial slice on fake tensors.

A random half of every space is sliced away and the narrow graph runs on fake tensors. The first node that fails, or
whose shape is not that of the kept channels, freezes its inputs, and the analysis is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from ..channels.analysis import analyse
from ..channels.interpreter import REPORT, name_of
from ..channels.spaces import Axis, Channels
from ..errors import PassError, first_line
from ..ir import graph
from ..ir.program import Program
from ..request.constraints import ANY, Constraints
from . import slicing
from .identity import random_plan
from .plan import Plan


def analysed(program: Program, constraints: Constraints = ANY) -> Channels:
    """Return the channel spaces of `program` that can be sliced.

    Ends after as many rounds as there are nodes at most, since each refuses one more. Raises SpecError where a pattern
    of `constraints` matches no layer.
    """
    refused: dict[str, str] = {}
    for _ in range(len(program.module.graph.nodes) + 1):
        channels = analyse(program, constraints, refused)
        found = misfit(program, channels)
        if found is None:
            return channels
        node, reason = found
        if node in refused:
            break
        refused[node] = reason
    raise PassError(f"{node} cannot be sliced ({reason}) though nothing is removed around it; {REPORT}")


def misfit(program: Program, channels: Channels) -> tuple[str, str] | None:
    """Return the first misfit node of a sliced network and why, or None."""
    if not channels.prunable:
        return None
    plan = random_plan(channels, 0)
    wide = graph.example_values(program.module, program.example_inputs)
    shapes = {node.name: _shapes(value, channels.values.get(node.name), plan) for node, value in wide.items()}

    def checked(module: fx.GraphModule, node: fx.Node, values: graph.Values) -> Any:
        try:
            value = graph.run_node(module, node, values)
        except Exception as error:
            raise _unfit(node, shapes, first_line(error)) from error
        found, wanted = _shapes(value, None, plan), shapes.get(node.name)
        if node.name in shapes and found != wanted:
            raise _unfit(node, shapes, f"it would have the shape {found}, not {wanted}")
        return value

    try:
        graph.example_values(slicing.apply(program.module, plan), program.example_inputs, checked)
    except slicing.UnfitError as error:
        return error.node, first_line(error)
    return None


def _unfit(node: fx.Node, known: Mapping[str, Any], why: str) -> slicing.UnfitError:
    return slicing.UnfitError(_reader(node, known), f"{name_of(node)} cannot be made narrow: {why}")


def _reader(node: fx.Node, known: Mapping[str, Any]) -> str:
    """Return the dense node of a node: itself, or the first known reader."""
    while node.name not in known and node.users:  # ends: a graph has no circle
        node = next(iter(node.users))
    return node.name


def _shapes(value: Any, axis: Any, plan: Plan) -> Any:
    """Return the shapes in a value, with the plan's kept channels on `axis`."""
    if isinstance(value, Tensor):
        sizes = list(value.shape)
        if isinstance(axis, Axis):
            sizes[axis.dim] = int(plan.mask[axis.coordinates].sum())
        return sizes
    if isinstance(value, (list, tuple)):
        axes = axis if isinstance(axis, tuple) else [axis] * len(value)
        return [_shapes(one, each, plan) for one, each in zip(value, axes, strict=True)]
    return None
