"""Labels of operators that move data: run on labels; padding makes new ones.

`narrowing` rewrites the channel counts in their arguments (`view`, `split`, `pad` …) after slicing.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from ...ir import graph
from ..interpreter import Rule, Walk, name_of, overload_packet
from ..labels import compress, fixed, varying
from ..spaces import PRODUCES
from .contraction import argument

aten = torch.ops.aten
SHAPED_BY_OTHER = {aten.view_as, aten.reshape_as}
NEW = -1  # marks a place that padding has made


def execute(walk: Walk, node: fx.Node) -> Any:
    """Run the operator on labels, with computed numbers from the example."""

    def value(source: fx.Node) -> Any:
        example = walk.examples[source]
        return walk.value(source) if isinstance(example, (Tensor, list, tuple)) else example

    args: Any = fx.map_arg(node.args, value)
    kwargs = fx.map_arg(node.kwargs, value)
    packet = overload_packet(node)
    if packet in SHAPED_BY_OTHER:  # what takes its shape from another has that one's channels
        moved, other = args[0].reshape(args[1].shape), args[1]
        return walk.settle(walk.labels.join(moved, other, "the value that it takes its shape from is fixed"))
    if packet is aten.view and not isinstance(args[1], (list, tuple)):
        return walk.opaque(node, f"{name_of(node)} reads numbers of one type as another")
    if packet is aten.roll and not argument(node, "dims") and varying(args[0]):
        return walk.opaque(node, f"{name_of(node)} moves all of its entries along one line")
    operator: Any = node.target
    moved = operator(*args, **kwargs)
    return walk.settle(moved) if isinstance(moved, Tensor) else [walk.settle(one) for one in moved]


def scatter(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of slice_scatter, select_scatter: written and replaced channels join."""
    base, written = (walk.value(one) for one in node.args[:2])
    if len(node.all_input_nodes) > len(set(node.args[:2])):
        return walk.opaque(node, f"{name_of(node)} writes at places that are known only at run time")
    dim, write = int(argument(node, "dim")), cast(Any, node.target)
    if overload_packet(node) is aten.slice_scatter:
        places: tuple[Any, ...] = tuple(argument(node, name) for name in ("start", "end", "step"))
        region = aten.slice.Tensor(base, dim, *places)
    else:
        places = (argument(node, "index"),)
        region = aten.select.int(base, dim, *places)
    joined = walk.labels.join(region, written.expand(region.shape), "it is written over channels that are fixed")
    return walk.settle(write(walk.labels.find(base), joined, dim, *places))


def glu(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of a * sigmoid(b), with both halves of the axis joined."""
    value, gate = walk.value(node.args[0]).chunk(2, int(argument(node, "dim")))
    return walk.settle(walk.labels.join(value, gate, "the other half of its gated linear unit is fixed"))


def sampled(walk: Walk, node: fx.Node) -> Any:
    """Run Tensor.unfold, diagonal, topk, squeeze … on labels, off the channel axis."""
    labels = walk.value(node.args[0])
    axes = set(varying(labels))
    touched = {int(dim) % max(labels.dim(), 1) for dim in _dims(node)}
    if not axes:
        return walk.fixed_like(node)
    if not touched or touched & axes:
        return walk.opaque(node, f"{name_of(node)} is taken along the channel axis")
    args, kwargs = fx.map_arg((node.args[1:], node.kwargs), lambda source: walk.examples[source])
    call: Any = node.target
    moved = call(labels, *args, **kwargs)
    return walk.settle(moved) if isinstance(moved, Tensor) else [walk.settle(moved[0])] * len(moved)


def _dims(node: fx.Node) -> list[int]:
    """Return the axes that an operator names."""
    found: list[Any] = [argument(node, name, None) for name in ("dim", "dim1", "dim2", "dimension")]
    return [axis for one in found if one is not None for axis in (one if isinstance(one, (list, tuple)) else [one])]


def pad(walk: Walk, node: fx.Node) -> Any:
    """Return padded labels: constant padding along the channel axis adds channels."""
    labels = walk.value(node.args[0])
    widths: Any = argument(node, "pad")
    mode = str(node.args[2]) if len(node.args) > 2 and isinstance(node.args[2], str) else "constant"
    axes = varying(labels)
    sides = [pad_of_axis(widths, axis - labels.dim()) if axis in axes else (0, 0) for axis in range(labels.dim())]
    if any(side != (0, 0) and (mode != "constant" or min(side) < 0) for side in sides):
        return walk.opaque(node, "it is padded along the channel axis by other channels, or cropped")
    narrow = labels[tuple(slice(None) if axis in axes else slice(0, 1) for axis in range(labels.dim()))]
    moved = F.pad(narrow, [width for side in reversed(sides) for width in side], value=NEW)
    places = moved == NEW
    moved = moved.masked_scatter(places, walk.labels.fresh(int(places.sum())))
    return walk.settle(moved.expand(walk.examples[node].shape))


def pad_of_axis(widths: list[int], axis: int) -> tuple[int, int]:
    """Return the padding before and after `axis`, counted from the right: -1 is last."""
    place = 2 * (-axis - 1)
    return (widths[place], widths[place + 1]) if place < len(widths) else (0, 0)


def index(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of x[:, places], with constant places along the channels."""
    labels = walk.value(node.args[0])
    places = indices_of(node, labels.dim())
    axes = varying(labels)
    several = sum(place is not None for place in places) > 1
    if several and any(places[axis] is not None for axis in axes):
        return walk.opaque(node, f"{name_of(node)} picks channels and places of another axis together")
    chosen: list[Tensor | None] = []
    for axis, place in enumerate(places):
        constant = None if place is None else constant_of(walk.module, place)
        if place is not None and walk.examples[place].dtype == torch.bool:
            return walk.opaque(node, f"{name_of(node)} keeps places that are known only at run time")
        if place is not None and axis in axes and (constant is None or constant.dim() != 1):
            return walk.opaque(node, f"{name_of(node)} picks channels at run time, or into several axes")
        zeros = None if place is None else torch.zeros(walk.examples[place].shape, dtype=torch.int64)
        chosen.append(constant if axis in axes else zeros)
    return walk.settle(labels[tuple(slice(None) if place is None else place for place in chosen)])


def indices_of(node: fx.Node, rank: int) -> list[Any]:
    """Return the index per axis of `index` or `index_select`, None if whole."""
    listed: Any = node.args[1]
    if isinstance(listed, (list, tuple)):
        return [*listed, *[None] * (rank - len(listed))]
    return [node.args[2] if axis == int(listed) % rank else None for axis in range(rank)]


def constant_of(module: fx.GraphModule, node: Any) -> Tensor | None:
    """Return the value of a get_attr node, else None."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    return graph.attribute(module, str(node.target)).cpu()


def embedding(walk: Walk, node: fx.Node) -> Any:
    """Return the labels of an embedding, whose columns are channels."""
    weight: Any = node.args[0]
    columns = walk.labels.fresh(walk.examples[weight].shape[1])
    walk.touch(weight, 1, columns, PRODUCES)
    return walk.result(node, columns, -1)


def constant(walk: Walk, node: fx.Node) -> Any:
    """Return frozen labels of a new tensor."""
    return fixed(walk.examples[node].shape)


def repeat_interleave(walk: Walk, node: fx.Node) -> Any:
    """Return labels repeated entry by entry: copies are channels of one coordinate."""
    each, dim = node.args[1] if len(node.args) > 1 else None, argument(node, "dim")
    if not isinstance(each, int) or dim is None:
        return sampled(walk, node)
    return walk.settle(walk.value(node.args[0]).repeat_interleave(each, int(dim)))


def channel_shuffle(walk: Walk, node: fx.Node) -> Any:
    """Return shuffled labels, as a transposition of [groups, channels]."""
    labels, groups = walk.value(node.args[0]), int(argument(node, "groups"))
    grid = labels.unflatten(1, (groups, -1)).transpose(1, 2)
    return walk.settle(compress(grid).reshape(labels.shape))


MOVES = """
    view _unsafe_view reshape view_as reshape_as flatten unflatten permute transpose swapaxes t numpy_T movedim moveaxis
    cat concat concatenate stack hstack vstack split split_with_sizes chunk slice narrow select squeeze unsqueeze expand
    broadcast_to unbind flip roll repeat tile pixel_shuffle pixel_unshuffle adjoint mT mH meshgrid tensor_split
"""
SAMPLES = "unfold diagonal topk"
CREATES = """
    zeros ones full empty arange new_zeros new_ones new_full new_empty scalar_tensor linspace eye rand randn
    tril_indices triu_indices sym_size
"""
RULES: dict[Any, Rule] = {
    **{getattr(aten, name): execute for name in MOVES.split() if hasattr(aten, name)},
    **{getattr(aten, name): sampled for name in SAMPLES.split()},
    **{getattr(aten, name): constant for name in CREATES.split() if hasattr(aten, name)},
    **dict.fromkeys((aten.slice_scatter, aten.select_scatter), scatter),
    **dict.fromkeys((aten.pad, aten.constant_pad_nd), pad),
    **dict.fromkeys((aten.index, aten.index_select), index),
    **dict.fromkeys((aten.channel_shuffle, aten.native_channel_shuffle), channel_shuffle),
    aten.embedding: embedding,
    aten.glu: glu,
    aten.repeat_interleave: repeat_interleave,
}
