"""The zero-group identity: masking what the consumers read equals slicing it away.

For a random keep set, `full network with the consumers' weights zeroed on the removed rows` and `sliced network` must
agree on any input. It needs no data, so it proves the channel analysis of the user's own network.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

from . import graph, surgery
from .channels.spaces import CONSUMES, Channels
from .plan import Plan
from .program import Program


def random_plan(channels: Channels, seed: int, remaining: float = 0.5) -> Plan:
    """Keep a random share of every prunable space, at least one coordinate of each."""
    generator = torch.Generator().manual_seed(seed)
    keep = {}
    for space in channels.prunable:
        count = max(1, round(space.size * remaining))
        keep[space.name] = tuple(torch.randperm(space.size, generator=generator)[:count].sort().values.tolist())
    return Plan(channels, keep)


def masked(module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """The full network whose consumers read nothing of what the plan removes."""
    mask = plan.mask
    zeroed: dict[str, Tensor] = {}
    consumed = {
        (one.parameter, one.dim) for space in plan.channels.prunable for one in space.sites if one.role == CONSUMES
    }
    for parameter, dim in sorted(consumed):
        weight = zeroed.get(parameter, graph.attribute(module, parameter))
        stays = mask[plan.channels.parameters[parameter, dim]].to(weight.dtype)
        zeroed[parameter] = weight * stays.reshape([-1 if axis == dim else 1 for axis in range(weight.dim())])
    return graph.rebuild(module, zeroed)


def prove(program: Program, channels: Channels, seed: int = 0) -> float:
    """The largest deviation of the identity, relative to the largest output, in float64.

    Half of every space is removed at random; inputs are normal noise. Around 1e-15 where the analysis is right.
    """
    module = in_float64(program.module)
    generator = torch.Generator().manual_seed(seed)
    inputs = [
        torch.randn(value.shape, generator=generator, dtype=torch.float64) if value.is_floating_point() else value
        for value in program.example_inputs
    ]
    plan = random_plan(channels, seed)
    with torch.no_grad():
        wanted, found = (_flat(one(*inputs)) for one in (masked(module, plan), surgery.apply(module, plan)))
    scale = max(float(one.abs().max()) for one in wanted) or 1.0
    return max(float((a - b).abs().max()) for a, b in zip(wanted, found, strict=True)) / scale


def in_float64(module: fx.GraphModule) -> fx.GraphModule:
    """A copy in double precision."""
    return copy.deepcopy(module).double()


def _flat(value: Tensor | tuple[Tensor, ...] | list[Tensor] | dict[str, Tensor]) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
