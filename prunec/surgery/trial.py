"""Check channel analysis by a trial slice on fake tensors.

A random half of every space is sliced away and the narrow graph runs on fake tensors. The first node that fails, or
whose shape is not that of the kept channels, freezes its inputs, and the analysis is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode

from ..channels.analysis import analyse
from ..channels.interpreter import REPORT, first_line, name_of
from ..channels.spaces import Axis, Channels
from ..errors import PassError
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
    try:
        narrow = slicing.apply(program.module, plan)
    except slicing.UnfitError as error:
        return error.node, first_line(error)
    wide = graph.example_values(program.module, program.example_inputs)
    shapes = {node.name: _shapes(value, channels.values.get(node.name), plan) for node, value in wide.items()}
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    values: graph.Values = {}
    with mode, torch.no_grad():
        for node, one in zip(graph.placeholders(narrow), program.example_inputs, strict=True):
            values[node] = mode.from_tensor(one)
        for node in narrow.graph.nodes:
            if node.op not in ("get_attr", "call_function"):
                continue
            why = _run(narrow, node, values, mode)
            if why is None and node.op == "call_function" and node.name in shapes:
                why = _differ(_shapes(values[node], None, plan), shapes[node.name])
            if why is not None:
                return _reader(node, shapes), f"{name_of(node)} cannot be made narrow: {why}"
    return None


def _run(module: fx.GraphModule, node: fx.Node, values: graph.Values, mode: FakeTensorMode) -> str | None:
    """Run one node on fake tensors; return why it fails, or None."""
    try:
        if node.op == "get_attr":
            values[node] = mode.from_tensor(graph.attribute(module, str(node.target)))
        else:
            values[node] = graph.run_node(module, node, values)
    except Exception as error:
        return first_line(error)
    return None


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


def _differ(found: Any, wanted: Any) -> str | None:
    return None if found == wanted else f"it would have the shape {found}, not {wanted}"
