"""Rewrite the numbers in a graph that count channels, for the kept channels.

`view`, `expand`, `split`, `slice`, `pad`, the shape of a layer norm, the groups of a group norm, the scale of an
attention whose width shrinks, constant index tensors: each operator's own arguments, from the channel axes of its first
input and of its value.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from ..channels.rules.contraction import argument
from ..channels.spaces import Axis
from .picking import NEIGHBOUR_BYTES, PLACE_BYTES, neighbours, reindex, scatter, taps_of
from .rewriting import Narrowing

aten = torch.ops.aten


def narrow_arguments(
    module: fx.GraphModule,
    node: fx.Node,
    new: fx.Node,
    values: Mapping[str, Any],
    mask: Tensor,
    tensors: dict[str, Tensor],
) -> None:
    """Rewrite the arguments of `new`, a copy of `node`, for coordinates in `mask`."""
    packet = getattr(node.target, "overloadpacket", None)
    rewrite = REWRITES.get(packet)
    first = next((source.name for source in node.all_input_nodes), "")
    before, after = values.get(first), values.get(node.name)
    if rewrite is not None and (before is not None or after is not None):
        before = before if isinstance(before, Axis) else None
        rewrite(Narrowing(module, node, new, before, after, mask, tensors))


def _sizes(one: Narrowing) -> None:
    """Rewrite the channel size of view, reshape, expand."""
    if one.after is None:
        return
    sizes = list(one.new.args[1])  # type: ignore[arg-type]
    size, kept = sizes[one.after.dim], one.kept(one.after)
    if isinstance(size, int):
        sizes[one.after.dim] = size if size == -1 else kept
    elif -1 not in sizes:
        sizes[one.after.dim] = -1
    else:
        sizes[one.after.dim] = _scaled(one.new, size, kept, len(one.after.coordinates))
    one.set(1, sizes)


def _scaled(before: fx.Node, size: Any, kept: int, length: int) -> fx.Node:
    """Scale a computed size, such as batch · heads, by kept / length."""
    with before.graph.inserting_before(before):
        factors = size.args if size.target is operator.mul else ()
        whole = next((factor for factor in factors if isinstance(factor, int)), 0)
        if whole and whole * kept % length == 0:
            rest = next(factor for factor in factors if not isinstance(factor, int))
            return before.graph.call_function(operator.mul, (rest, whole * kept // length))
        product = before.graph.call_function(operator.mul, (size, kept // math.gcd(kept, length)))
        return before.graph.call_function(operator.floordiv, (product, length // math.gcd(kept, length)))


def _unflatten(one: Narrowing) -> None:
    if one.after is None:
        return
    first = int(one.argument("dim")) % (one.after.rank - len(one.argument("sizes")) + 1)
    sizes = list(one.argument("sizes"))
    if 0 <= one.after.dim - first < len(sizes) and sizes[one.after.dim - first] != -1:
        sizes[one.after.dim - first] = one.kept(one.after)
        one.set(2, sizes)


def _split(one: Narrowing) -> None:
    if not one.along() or one.before is None:
        return
    length, dim = len(one.before.coordinates), one.argument("dim")
    given: Any = one.node.args[1]
    if one.node.target.overloadpacket is aten.chunk:  # type: ignore[union-attr]
        given = -(-length // given)
    if one.node.target.overloadpacket is aten.tensor_split:  # type: ignore[union-attr]
        given = [len(part) for part in torch.arange(length).tensor_split(given)]
    sizes = given if isinstance(given, (list, tuple)) else [min(given, length - at) for at in range(0, length, given)]
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    pieces = [one.kept(one.before, start, start + size) for start, size in zip(starts, sizes, strict=True)]
    one.new.target = aten.split_with_sizes.default
    one.new.args, one.new.kwargs = (one.new.args[0], pieces, dim), {}


def _slice(one: Narrowing) -> None:
    if not one.along() or one.before is None:
        return
    if one.argument("step") != 1:
        reindex(one)
        return
    bounds = [_bound(one, one.before, name) for name in ("start", "end")]
    one.new.args, one.new.kwargs = (one.new.args[0], one.argument("dim"), *bounds), {}


def _bound(one: Narrowing, axis: Axis, name: str) -> Any:
    """Return the bound of a slice among the kept places.

    A bound that cuts nothing off is unchanged, for the batch may grow.
    """
    value, length = one.argument(name), len(axis.coordinates)
    if isinstance(value, fx.Node):
        copied = next(new for old, new in zip(one.node.args, one.new.args, strict=True) if old is value)
        return _scaled(one.new, copied, one.kept(axis), length)
    return value if value is None or value >= length or value == 0 else one.bound(axis, value)


def _narrow(one: Narrowing) -> None:
    if one.along() and one.before is not None:
        start, length = int(one.argument("start")), int(one.argument("length"))
        first = one.bound(one.before, start)
        one.new.args = (*one.new.args[:2], first, one.bound(one.before, start + length) - first)


def _squeeze(one: Narrowing) -> None:
    """Exclude the channel axis from a squeeze: one kept channel must not vanish."""
    if one.before is None or len(one.node.args) < 2:
        return
    given: Any = one.node.args[1]
    dims = [given] if isinstance(given, int) else list(given)
    rest = [dim for dim in dims if dim % one.before.rank != one.before.dim]
    if rest != dims:
        one.new.target, one.new.args = aten.squeeze.dims, (one.new.args[0], rest)


def _select(one: Narrowing) -> None:
    if one.along() and one.before is not None:
        one.set(2, one.bound(one.before, int(one.argument("index"))))


def _pad(one: Narrowing) -> None:
    if one.after is None:
        return
    widths: list[int] = list(one.argument("pad"))
    place = 2 * (one.after.rank - 1 - one.after.dim)
    if place + 1 < len(widths) and (widths[place] > 0 or widths[place + 1] > 0):
        length = len(one.after.coordinates)
        before, after = max(widths[place], 0), max(widths[place + 1], 0)
        widths[place] = one.kept(one.after, 0, before) if before else widths[place]
        widths[place + 1] = one.kept(one.after, length - after) if after else widths[place + 1]
        one.set(1, widths)


def _normalized_shape(one: Narrowing) -> None:
    if one.before is None:
        return
    shape = list(one.argument("normalized_shape"))
    place = one.before.dim - (one.before.rank - len(shape))
    if place >= 0:
        shape[place] = one.kept(one.before)
        one.set(1, shape)


def _groups(one: Narrowing) -> None:
    if one.before is not None:
        groups = int(one.argument("num_groups"))
        one.set(1, int(one.mask[one.before.coordinates].reshape(groups, -1).any(1).sum()))


def _scale(one: Narrowing) -> None:
    """Set the scale of a narrowed attention to that of its dense width."""
    if one.before is not None and one.before.dim == one.before.rank - 1 and one.argument("scale") is None:
        one.new.kwargs = {**one.new.kwargs, "scale": 1 / math.sqrt(len(one.before.coordinates))}


def places_of(module: fx.GraphModule, values: Mapping[str, Any]) -> Iterator[tuple[Tensor, int]]:
    """Yield the axes of stored places in a narrow network: coordinates, bytes per place."""
    for node in module.graph.nodes:
        rewrite, after = REWRITES.get(getattr(node.target, "overloadpacket", None)), values.get(node.name)
        before = next((values.get(source.name) for source in node.all_input_nodes), None)
        if not isinstance(after, Axis) or not isinstance(before, Axis):
            continue
        if rewrite is neighbours and after.dim == after.rank - 1:
            yield after.coordinates, NEIGHBOUR_BYTES * taps_of(module, node)
        elif _picks(node, rewrite) and _along(node, before):
            yield after.coordinates, PLACE_BYTES


def _picks(node: fx.Node, rewrite: Rewrite | None) -> bool:
    """Return whether a narrow network picks a node's channels by their places."""
    return rewrite in (reindex, scatter) or (rewrite is _slice and argument(node, "step") != 1)


def _along(node: fx.Node, before: Axis) -> bool:
    """Return whether a node works along the channel axis. By its `dim` or `dims`; True without either."""
    given = argument(node, "dim", argument(node, "dims", before.dim))
    return before.dim in [dim % before.rank for dim in ([given] if isinstance(given, int) else given)]


Rewrite = Callable[[Narrowing], None]
REWRITES: Mapping[Any, Rewrite] = {
    **dict.fromkeys((aten.reshape, aten.expand, aten.broadcast_to), _sizes),
    **dict.fromkeys((aten.split, aten.split_with_sizes, aten.chunk, aten.tensor_split), _split),
    **dict.fromkeys((aten.slice_scatter, aten.select_scatter), scatter),
    **dict.fromkeys((aten.pad, aten.constant_pad_nd), _pad),
    **dict.fromkeys(
        (aten.roll, aten.index, aten.index_select, aten.channel_shuffle, aten.native_channel_shuffle), reindex
    ),
    **dict.fromkeys((aten.layer_norm, aten.native_layer_norm, aten.rms_norm), _normalized_shape),
    aten.slice: _slice,
    aten.unflatten: _unflatten,
    aten.squeeze: _squeeze,
    aten.conv1d: neighbours,
    aten.narrow: _narrow,
    aten.select: _select,
    aten.group_norm: _groups,
    aten.scaled_dot_product_attention: _scale,
}
