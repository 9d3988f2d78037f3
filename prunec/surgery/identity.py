"""Prove the zero-group identity: masked consumer inputs equal sliced channels.

For a random keep set, the `full network whose mixing operators read zeros on the removed channels` and the `sliced
network` must agree on any input. This needs no data, so it checks the channel analysis on the user's own network. Where
a norm, a softmax or a mean runs over the channels, the full network runs it on the kept ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from ..channels.spaces import Axis, Channels
from ..data.noise import noise_like
from ..ir import graph
from ..ir.drift import in_float64
from ..ir.graph import floats
from ..ir.interpreter import Interpreter, Live
from ..ir.program import Program
from . import slicing
from .plan import Plan


def random_plan(channels: Channels, seed: int, remaining: float = 0.5) -> Plan:
    """Keep a random share of every prunable space, at least one coordinate each."""
    generator = torch.Generator().manual_seed(seed)
    keep = {}
    for space in channels.prunable:
        count = max(1, round(space.size * remaining))
        keep[space.name] = tuple(torch.randperm(space.size, generator=generator)[:count].sort().values.tolist())
    return Plan(channels, keep)


@torch.no_grad()
def masked(program: Program, sliced: fx.GraphModule, plan: Plan, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return the outputs of the full network with removed channels read as zeros.

    Operators over the channels are those of the `sliced` network, between a selection and its inverse.
    """
    channels, thin = plan.channels, {node.name: node for node in sliced.graph.nodes}

    def zeroed(node: fx.Node, values: Live) -> Any:
        inside = {source: _zeroed(values[source], source, plan) for source in node.all_input_nodes}
        return graph.run_node(program.module, node, inside)

    def over_kept(node: fx.Node, values: Live) -> Any:
        return _over_kept(sliced, thin[node.name], values, node, plan)

    hooks = dict.fromkeys(channels.reads, zeroed)
    for node in program.module.graph.nodes:
        if node.name in channels.over and isinstance(channels.values.get(node.all_input_nodes[0].name), Axis):
            hooks[node.name] = over_kept
    return Interpreter(program.module, hooks)(inputs)


def _zeroed(value: Any, node: fx.Node, plan: Plan) -> Any:
    """Return a node's value with zeros in removed channels; parameters are unchanged."""
    axis = plan.channels.values.get(node.name)
    if node.op == "get_attr" or not isinstance(axis, Axis):
        return value
    stays = plan.mask[axis.coordinates].to(value.device)
    shaped = stays.reshape([-1 if dim == axis.dim else 1 for dim in range(axis.rank)])
    return value.masked_fill(~shaped, 0)  # a product with zero would make NaN of infinity


def _over_kept(sliced: fx.GraphModule, thin: fx.Node, values: Live, node: fx.Node, plan: Plan) -> Any:
    """Run `thin` on the kept channels of its input; scatter its output to their places."""
    inside = Live(sliced, {})
    for source, narrow in zip(node.all_input_nodes, thin.all_input_nodes, strict=True):
        if narrow.op != "get_attr":
            axis, value = plan.channels.values.get(source.name), values[source]
            kept = value.index_select(axis.dim, _kept(axis, plan, value.device)) if isinstance(axis, Axis) else value
            inside[narrow] = kept
    found = graph.run_node(sliced, thin, inside)
    axis = plan.channels.values.get(node.name)
    if not isinstance(axis, Axis):
        return found
    shape = list(found.shape)
    shape[axis.dim] = len(axis.coordinates)
    return found.new_zeros(shape).index_copy(axis.dim, _kept(axis, plan, found.device), found)


def _kept(axis: Axis, plan: Plan, device: torch.device) -> Tensor:
    return plan.mask[axis.coordinates].nonzero().flatten().to(device)


def prove(program: Program, channels: Channels, seed: int = 0) -> float:
    """Return the largest deviation of the identity, relative to the largest output, in float64.

    Half of every space is removed at random; inputs are normal noise. About 1e-15 if the analysis is right, infinite
    where an output is NaN, or infinite in one network only.
    """
    double = replace(program, module=in_float64(program.module))
    drawn = [one.to(program.device) for one in noise_like(program.example_inputs, seed=seed)]
    inputs = [one.double() if one.is_floating_point() else one for one in drawn]
    plan = random_plan(channels, seed)
    sliced = slicing.apply(double.module, plan)
    wanted = masked(double, sliced, plan, inputs)
    with torch.no_grad():
        found = floats(sliced(*inputs))
    if not all(map(_as_infinite, wanted, found)):
        return math.inf
    finite = [(a[a.isfinite()], b[a.isfinite()]) for a, b in zip(wanted, found, strict=True)]
    scale = max((float(a.abs().max()) for a, _ in finite if a.numel()), default=0.0) or 1.0
    return max((float((a - b).abs().max()) for a, b in finite if a.numel()), default=0.0) / scale


def _as_infinite(a: Tensor, b: Tensor) -> bool:
    """Return whether two outputs hold the same infinities, and no NaN."""
    infinite = a.isinf() | b.isinf()
    return bool((a[infinite] == b[infinite]).all()) and not bool((a.isnan() | b.isnan()).any())
