"""Let the kept coordinates of a space stand for those that go, by the weights alone.

A mixing matrix M [size, size] of a space says what a kept coordinate k gets of each coordinate j: along a dimension of
a parameter, row (k, i) becomes sum_j M[k, j] · row (j, i), where i counts the rows that a coordinate owns. Coordinates
that go have rows of zeros in M, and are cut away after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, fx

from ..channels.spaces import CARRIES, PRODUCES, Channels, Site, Space
from ..ir import graph
from ..surgery import slicing
from ..surgery.plan import Plan

MADE = (PRODUCES, CARRIES)  # the roles of a parameter that has a say in what a coordinate is


def filters(module: fx.GraphModule, channels: Channels, space: Space) -> Tensor:
    """Return by coordinate the weights and biases of all layers that produce or carry it, float64 [size, n]."""
    layers = {name for one in channels.contractions for name in (one.weight, one.bias)}
    made = [site for site in space.sites if site.role in MADE]
    found = [site for site in made if site.role == PRODUCES or site.parameter in layers]
    return torch.cat([_rows(graph.numbers(module, site.parameter), site).flatten(1) for site in found], 1)


def changed(plan: Plan) -> list[tuple[Space, Tensor]]:
    """The spaces with layers of which something goes, and what stays of each, int64."""
    kept = [(space, torch.tensor(plan.keep.get(space.name, range(space.size)))) for space in plan.channels.prunable]
    return [(space, keep) for space, keep in kept if space.sites and len(keep) < space.size]


def mixed(module: fx.GraphModule, plan: Plan, mixes: Iterable[tuple[Space, Mapping[str, Tensor]]]) -> dict[str, Tensor]:
    """The narrow parameters after each space was mixed with the M that it has for each role."""
    tensors: dict[str, Tensor] = {}
    for space, by_role in mixes:
        for site in space.sites:
            if site.role in by_role:
                wide = tensors.get(site.parameter, graph.numbers(module, site.parameter))
                tensors[site.parameter] = _mix(wide, site, by_role[site.role])
    mask = plan.mask
    narrow = {name: slicing.narrow(wide, name, plan, mask) for name, wide in tensors.items()}
    return {name: value.to(graph.attribute(module, name)) for name, value in narrow.items()}


def _rows(tensor: Tensor, site: Site) -> Tensor:
    """A parameter by coordinate, [size, r, ...]."""
    return tensor.movedim(site.dim, 0)[site.rows]


def _mix(tensor: Tensor, site: Site, matrix: Tensor) -> Tensor:
    """The parameter, still wide, with its rows mixed."""
    found = tensor.movedim(site.dim, 0).clone()
    found[site.rows] = torch.einsum("kj,j...->k...", matrix, _rows(tensor, site))
    return found.movedim(0, site.dim).contiguous()
