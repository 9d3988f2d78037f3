"""Operators that only move data are executed on the labels, as they are; padding makes new labels for new places.

Where a number in their arguments counts channels (`view`, `split`, `pad` …) `narrow_arguments` rewrites it for the
channels that stay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from .contraction import argument
from .labels import along, varying
from .walk import Rule, Walk

aten = torch.ops.aten
VIEWS = {aten.view: aten.reshape, aten._unsafe_view: aten.reshape}  # labels with stride 0 cannot always be viewed


def execute(walk: Walk, node: fx.Node) -> Any:
    """Run the operator on labels; numbers that the graph computes are those of the example."""

    def value(source: fx.Node) -> Any:
        example = walk.examples[source]
        return walk.value(source) if isinstance(example, (Tensor, list, tuple)) else example

    args, kwargs = fx.map_arg(node.args, value), fx.map_arg(node.kwargs, value)
    packet = node.target.overloadpacket  # type: ignore[union-attr]
    operator: Any = VIEWS.get(packet, node.target)
    moved = operator(*args, **kwargs)
    return walk.settle(moved) if isinstance(moved, Tensor) else [walk.settle(one) for one in moved]


def pad(walk: Walk, node: fx.Node) -> Any:
    """Constant padding: along the channel axis it adds channels, elsewhere it widens those that are there."""
    labels = walk.value(node.args[0])
    widths: Any = argument(node, "pad")
    mode = str(node.args[2]) if len(node.args) > 2 and isinstance(node.args[2], str) else "constant"
    shape, axes = walk.examples[node].shape, varying(labels)
    if not axes:
        return labels[(slice(0, 1),) * labels.dim()].expand(shape)
    (axis,) = axes
    before, after = pad_of_axis(widths, axis - labels.dim())
    if not before and not after:
        return along(_along(labels, axis), axis, shape)
    if mode != "constant" or min(before, after) < 0:
        return walk.opaque(node, "it is padded along the channel axis by other channels")
    new = walk.labels.fresh(before + after)
    return walk.settle(along(torch.cat([new[:before], _along(labels, axis), new[before:]]), axis, shape))


def pad_of_axis(widths: list[int], axis: int) -> tuple[int, int]:
    """How much `pad` adds before and after an axis counted from the right: -1 is the last."""
    place = 2 * (-axis - 1)
    return (widths[place], widths[place + 1]) if place < len(widths) else (0, 0)


def _along(labels: Tensor, axis: int) -> Tensor:
    return labels[tuple(slice(None) if place == axis else 0 for place in range(labels.dim()))]


MOVES = """
    view _unsafe_view reshape flatten unflatten permute transpose swapaxes t numpy_T movedim cat concat stack split
    split_with_sizes chunk slice narrow select squeeze unsqueeze expand unbind flip
"""
RULES: dict[Any, Rule] = {
    **{getattr(aten, name): execute for name in MOVES.split()},
    aten.pad: pad,
    aten.constant_pad_nd: pad,
}


# ---- numbers that count channels, after some are gone -------------------------------------------------------------


def narrow_arguments(node: fx.Node, new: fx.Node, before: Any, after: Any, mask: Tensor) -> None:
    """Rewrite the arguments of `new`, the copy of `node`, for the coordinates that `mask` keeps.

    `before` and `after` are the channel axes (`Axis` or None, or a tuple of them) of its first input and its value.
    """
    packet = getattr(node.target, "overloadpacket", None)
    if packet in (aten.view, aten._unsafe_view, aten.reshape, aten.expand) and after is not None:
        sizes: list[Any] = list(new.args[1])  # type: ignore[arg-type]
        if isinstance(sizes[after.dim], int) and sizes[after.dim] != -1:
            sizes[after.dim] = kept(after, mask)
        new.args = (new.args[0], sizes, *new.args[2:])
    elif packet in (aten.split, aten.split_with_sizes, aten.chunk) and _is_axis(node, before):
        new.target = aten.split_with_sizes.default
        new.args = (new.args[0], [kept(one, mask) for one in after], argument(node, "dim"))
    elif packet is aten.slice and _is_axis(node, before):
        bounds = [_kept_before(before, bound, mask) for bound in (argument(node, "start"), argument(node, "end"))]
        new.args = (*new.args[:2], *bounds, *new.args[4:])
    elif packet is aten.narrow and _is_axis(node, before):
        start, length = int(node.args[2]), int(node.args[3])  # type: ignore[arg-type]
        first = _kept_before(before, start, mask)
        new.args = (*new.args[:2], first, _kept_before(before, start + length, mask) - first)
    elif packet is aten.select and _is_axis(node, before):
        new.args = (*new.args[:2], _kept_before(before, int(node.args[2]), mask))  # type: ignore[arg-type]
    elif packet in (aten.pad, aten.constant_pad_nd) and after is not None:
        new.args = (new.args[0], _narrow_pad(node, after, mask), *new.args[2:])


def kept(axis: Any, mask: Tensor) -> int:
    """How many of the axis's places stay."""
    return int(mask[axis.coordinates].sum())


def _is_axis(node: fx.Node, before: Any) -> bool:
    return before is not None and int(argument(node, "dim")) % before.rank == before.dim


def _kept_before(axis: Any, bound: int | None, mask: Tensor) -> int:
    places = mask[axis.coordinates]
    bound = 0 if bound is None else bound
    bound = min(max(bound + len(places) if bound < 0 else bound, 0), len(places))
    return int(places[:bound].sum())


def _narrow_pad(node: fx.Node, after: Any, mask: Tensor) -> list[int]:
    widths: list[int] = list(argument(node, "pad"))
    place = 2 * (after.rank - 1 - after.dim)
    if place + 1 >= len(widths) or not (widths[place] or widths[place + 1]):
        return widths
    places = mask[after.coordinates]
    first, last = widths[place], len(places) - widths[place + 1]
    widths[place], widths[place + 1] = int(places[:first].sum()), int(places[last:].sum())
    return widths
