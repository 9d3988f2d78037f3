"""Rewrite operators that permute channels, as a selection of kept places.

Each operator runs on the numbers of the dense places; the kept ones give the narrow places to read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from ..channels.rules.contraction import argument
from ..channels.rules.movement import constant_of, indices_of
from ..ir import graph
from .rewriting import Narrowing

aten = torch.ops.aten
PLACE_BYTES, NEIGHBOUR_BYTES = 8, 4  # int64, int32


def scatter(one: Narrowing) -> None:
    """Rewrite slice_scatter or select_scatter: pick kept channels from both tensors, concatenated."""
    if not one.along() or one.before is None:
        return
    length, dim = len(one.before.coordinates), one.before.dim
    places = torch.arange(length)
    one_channel = one.node.target.overloadpacket is aten.select_scatter  # type: ignore[union-attr]
    if one_channel:
        region = places[[int(one.argument("index"))]]
    else:
        start, end = (_from_start(one.argument(name), length) for name in ("start", "end"))
        region = places[start : end : one.argument("step")]
    stays = one.mask[one.before.coordinates]
    source = stays.cumsum(0) - 1
    source[region] = int(stays.sum()) + stays[region].cumsum(0) - 1
    base, written = one.new.args[:2]
    with one.new.graph.inserting_before(one.new):
        if one_channel:
            written = one.new.graph.call_function(aten.unsqueeze.default, (written, dim))
        joined = one.new.graph.call_function(aten.cat.default, ([base, written], dim))
    one.pick(joined, dim, source[stays])


def _from_start(bound: int | None, length: int) -> int | None:
    """Return a bound of a slice with a step, as Python counts it."""
    return None if bound is None else min(max(bound + length if bound < 0 else bound, 0), length)


def reindex(one: Narrowing) -> None:
    """Rewrite roll, index, shuffle, slices with a step: pick the kept result places."""
    if one.before is None or one.after is None:
        return
    length = len(one.before.coordinates)
    places = torch.arange(length)
    view = [-1 if axis == one.before.dim else 1 for axis in range(one.before.rank)]
    moved = _moved(one, places.reshape(view))
    if moved is None:
        return
    stays = one.mask[one.before.coordinates]
    number = stays.cumsum(0) - 1
    one.pick(_elsewhere(one), one.before.dim, number[moved[stays[moved]]])


def _elsewhere(one: Narrowing) -> Any:
    """Return the node's input, rolled along its other axes."""
    source = one.new.args[0]
    if one.node.target.overloadpacket is not aten.roll or one.before is None:  # type: ignore[union-attr]
        return source
    pairs = zip(one.argument("shifts"), one.argument("dims"), strict=True)
    others = [(by, dim) for by, dim in pairs if dim % one.before.rank != one.before.dim]
    if not others:
        return source
    shifts, dims = (list(values) for values in zip(*others, strict=True))
    with one.new.graph.inserting_before(one.new):
        return one.new.graph.call_function(aten.roll.default, (source, shifts, dims))


def _moved(one: Narrowing, places: Tensor) -> Tensor | None:
    """Return the source place of each result place along the channel axis. None where the axis is unchanged."""
    assert one.before is not None
    packet, dim = one.node.target.overloadpacket, one.before.dim  # type: ignore[union-attr]
    if packet is aten.roll:
        dims, shifts = one.argument("dims"), one.argument("shifts")
        shift = sum(by for by, axis in zip(shifts, dims, strict=True) if axis % one.before.rank == dim)
        return places.flatten().roll(shift) if shift else None
    if packet in (aten.channel_shuffle, aten.native_channel_shuffle):
        return places.reshape(int(one.argument("groups")), -1).t().flatten() if dim == 1 else None
    if packet is aten.slice:
        start, end = one.argument("start"), one.argument("end")
        return places.flatten()[start : end : one.argument("step")]
    index = indices_of(one.node, one.before.rank)[dim]
    chosen = constant_of(one.module, index)
    return None if chosen is None else places.flatten()[chosen]


def neighbours(one: Narrowing) -> None:
    """Rewrite a convolution along channels: pick dense neighbours, zeros for removed ones.

    conv1d(x, w)[i] = Σ_j w[j] z[p(i, j)],   z = x and a zero behind it, p int32 [kept · taps]: no C × C matrix
    """
    if one.before is None or one.before.dim != 2 or bool((stays := one.mask[one.before.coordinates]).all()):
        return
    dim, places = one.before.dim, _neighbours(one, stays)
    source, weight, bias = one.new.args[0], one.new.args[1], argument(one.new, "bias")
    with one.new.graph.inserting_before(one.new):
        padded = one.new.graph.call_function(aten.constant_pad_nd.default, (source, [0, 1]))
        constant = one.constant(places.flatten())
        picked = one.new.graph.call_function(aten.index_select.default, (padded, dim, constant))
    one.new.target = aten.conv1d.default
    one.new.args, one.new.kwargs = (picked, weight, bias, [places.shape[1]], [0], [1], 1), {}


def taps_of(module: fx.GraphModule, node: fx.Node) -> int:
    """Return the taps of a convolution along the channels."""
    return int(graph.attribute(module, str(argument(node, "weight").target)).shape[-1])


def _neighbours(one: Narrowing, stays: Tensor) -> Tensor:
    """Return narrow places each kept channel reads, int32 [kept, taps]; one-past-the-end holds zero."""
    taps = taps_of(one.module, one.node)
    (step,), padding = one.argument("dilation"), one.argument("padding")
    same = step * (taps - 1) // 2  # for equal length: as many before as after, or one fewer
    first = same if isinstance(padding, str) else int(padding[0])
    dense = stays.nonzero() + step * torch.arange(taps) - first
    inside = (dense >= 0) & (dense < len(stays))
    dense = dense.clamp(0, len(stays) - 1)
    found = torch.where(inside & stays[dense], stays.cumsum(0)[dense] - 1, stays.sum())
    return found.to(torch.int32)
