"""Express removed coordinates of a space by the kept ones, from the weights alone.

A mixing matrix M [size, size] has the share of each coordinate j in a kept one k: along a dimension of a parameter, row
(k, i) becomes sum_j M[k, j] · row (j, i), where i counts the rows of a coordinate. Removed coordinates have zero rows
in M, and are sliced off after.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, fx

from ..channels.spaces import CARRIES, PRODUCES, Channels, Site, Space
from ..ir import graph
from ..surgery import slicing
from ..surgery.plan import Plan

MADE = (PRODUCES, CARRIES)  # roles of parameters that determine a coordinate


def filters(module: fx.GraphModule, channels: Channels, space: Space) -> Tensor:
    """Return the weights and biases of a space's producing layers, float64 [size, n]."""
    layers = {name for one in channels.contractions for name in (one.weight, one.bias)}
    made = [site for site in space.sites if site.role in MADE]
    found = [site for site in made if site.role == PRODUCES or site.parameter in layers]
    return torch.cat([_rows(graph.numbers(module, site.parameter), site).flatten(1) for site in found], 1)


def changed(plan: Plan) -> list[tuple[Space, Tensor]]:
    """Return the narrowed spaces with layers, and the kept coordinates of each, int64."""
    kept = [(space, torch.tensor(plan.keep.get(space.name, range(space.size)))) for space in plan.channels.prunable]
    return [(space, keep) for space, keep in kept if space.sites and len(keep) < space.size]


def mixed(module: fx.GraphModule, plan: Plan, mixes: Iterable[tuple[Space, Mapping[str, Tensor]]]) -> dict[str, Tensor]:
    """Return the narrow parameters after mixing each space by its M per role."""
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
    """Return a parameter by coordinate, [size, r, ...]."""
    return tensor.movedim(site.dim, 0)[site.rows]


def _mix(tensor: Tensor, site: Site, matrix: Tensor) -> Tensor:
    """Return the wide parameter with mixed rows."""
    found = tensor.movedim(site.dim, 0).clone()
    found[site.rows] = torch.einsum("kj,j...->k...", matrix, _rows(tensor, site))
    return found.movedim(0, site.dim).contiguous()
