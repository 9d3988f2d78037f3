"""Input positions that an operator needs for a window of its output.

A window is a range along one axis. It passes operators that treat positions alike: elementwise ones, linear layers,
norms and softmax along another axis, the queries of attention, reshapes and permutations that keep the axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ..frontend.requirements import is_random
from ..ir import graph
from .interpreter import overload_packet
from .rules.contraction import argument
from .rules.elementwise import is_elementwise

aten = torch.ops.aten
PICKS = (aten.select, aten.slice)  # take a window of their input


@dataclass(frozen=True)
class Window:
    """Positions `start` … `stop` - 1 along `axis`."""

    axis: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def along(self, axis: int) -> Window:
        """Return a copy along `axis`."""
        return Window(axis, self.start, self.stop)

    def joined(self, other: Window | None) -> Window | None:
        """Return the union of both windows; None, all positions, if the axes differ."""
        if other is None or other.axis != self.axis:
            return None
        return Window(self.axis, min(self.start, other.start), max(self.stop, other.stop))


Needs = Mapping[fx.Node, Window]  # by input; an input without a window is needed whole
Rule = Callable[["Shapes", fx.Node, Window], "Needs | None"]


@dataclass(frozen=True)
class Shapes:
    """Fake tensors of a graph at two batch sizes; windows avoid axes that differ."""

    examples: Sequence[graph.Values]

    def of(self, node: fx.Node) -> list[torch.Size]:
        """Return the shape at each batch size; empty if the value is no tensor."""
        values = [each[node] for each in self.examples]
        return [value.shape for value in values if isinstance(value, Tensor)]

    def size(self, node: fx.Node, axis: int) -> int | None:
        """Return the length of an axis, None if it depends on the batch."""
        found = {shape[axis] for shape in self.of(node) if axis < len(shape)}
        return found.pop() if len(found) == 1 else None

    def rank(self, node: fx.Node) -> int:
        """Return the number of axes."""
        return len(self.of(node)[0])

    def picked(self, node: fx.Node) -> Window | None:
        """Return the input window of `select` or `slice`, else None."""
        if overload_packet(node) not in PICKS or not isinstance(node.args[0], fx.Node):
            return None
        axis = int(argument(node, "dim")) % self.rank(node.args[0])
        size = self.size(node.args[0], axis)
        ends = [argument(node, name) for name in ends_of(node)]
        if size is None or any(isinstance(one, fx.Node) for one in ends):
            return None
        if len(ends) == 1:
            start = int(ends[0]) % size
            return Window(axis, start, start + 1)
        start, stop, step = slice(*ends).indices(size)
        return Window(axis, start, stop) if step == 1 and start < stop and stop - start < size else None

    def worth(self, node: fx.Node, window: Window | None) -> Window | None:
        """Return the window if at most half of the axis, else None (everything)."""
        size = None if window is None else self.size(node, window.axis)
        return window if window is not None and size is not None and len(window) * 2 <= size else None

    def needs(self, node: fx.Node, window: Window) -> Needs | None:
        """Return the input windows for an output window, None if all is needed."""
        if len(self.of(node)) != len(self.examples) or self.size(node, window.axis) is None:
            return None
        if is_random(node):  # fewer positions are other draws
            return None
        rule = RULES.get(overload_packet(node), _elementwise if is_elementwise(node) else None)
        return None if rule is None else rule(self, node, window)


def ends_of(node: fx.Node) -> tuple[str, ...]:
    """Return the argument names of the range that `select` or `slice` takes."""
    return ("index",) if overload_packet(node) is aten.select else ("start", "end", "step")


def _elementwise(shapes: Shapes, node: fx.Node, window: Window) -> Needs:
    back = window.axis - shapes.rank(node)  # counted from the right
    long = shapes.size(node, window.axis)
    found = {}
    for source in node.all_input_nodes:
        rank = shapes.rank(source) if shapes.of(source) else 0
        if rank + back >= 0 and shapes.size(source, rank + back) == long:  # else it is broadcast
            found[source] = window.along(rank + back)
    return found


def _slice(shapes: Shapes, node: fx.Node, window: Window) -> Needs | None:
    """Return the same positions of the input of a slice. None where the slice takes a part of this axis."""
    source, axis, size = argument(node, "self"), int(argument(node, "dim")), shapes.size(node, window.axis)
    whole = shapes.size(source, window.axis) == size and argument(node, "step") == 1
    return {source: window} if axis % shapes.rank(node) != window.axis or whole else None


def _prelu(shapes: Shapes, node: fx.Node, window: Window) -> Needs | None:
    """Return the input window of an activation with one slope per channel of axis 1."""
    return None if window.axis == 1 else {argument(node, "self"): window}


def _linear(shapes: Shapes, node: fx.Node, window: Window) -> Needs | None:
    source = argument(node, "input")
    return {source: window} if window.axis < shapes.rank(node) - 1 else None


def _norm(shapes: Shapes, node: fx.Node, window: Window) -> Needs | None:
    source = argument(node, "input")
    inside = window.axis >= shapes.rank(node) - len(argument(node, "normalized_shape"))
    return None if inside else {source: window}


def _softmax(shapes: Shapes, node: fx.Node, window: Window) -> Needs | None:
    source, dim = argument(node, "self"), int(argument(node, "dim"))
    return None if dim % shapes.rank(node) == window.axis else {source: window}


def _matmul(shapes: Shapes, node: fx.Node, window: Window) -> Needs | None:
    """Return the window of the first factor's rows."""
    first, second = node.args[:2]
    if not isinstance(first, fx.Node) or first is second or window.axis != shapes.rank(node) - 2:
        return None
    rank = shapes.rank(first)
    return {first: window.along(rank - 2)} if rank >= 2 else None


def _attention(shapes: Shapes, node: fx.Node, window: Window) -> Needs | None:
    """Return the windows of the queries, and of a mask's rows."""
    query, mask = argument(node, "query"), argument(node, "attn_mask")
    others = {argument(node, "key"), argument(node, "value"), mask}
    if argument(node, "is_causal") or query in others or window.axis != shapes.rank(node) - 2:
        return None
    found = {query: window}
    if mask is not None and shapes.rank(mask) >= 2 and shapes.size(mask, shapes.rank(mask) - 2) != 1:
        found[mask] = window.along(shapes.rank(mask) - 2)
    return found


def _permute(shapes: Shapes, node: fx.Node, window: Window) -> Needs:
    source, rank = argument(node, "self"), shapes.rank(node)
    if overload_packet(node) is aten.permute:
        order = [dim % rank for dim in argument(node, "dims")]
    else:
        order = list(range(rank))
        a, b = (argument(node, name) % rank for name in ("dim0", "dim1"))
        order[a], order[b] = order[b], order[a]
    return {source: window.along(order[window.axis])}


def _reshape(shapes: Shapes, node: fx.Node, window: Window) -> Needs | None:
    """Return the input axis of equal length and leading size for any batch."""
    (source,) = (one for one in node.all_input_nodes if shapes.of(one))
    pairs = list(zip(shapes.of(source), shapes.of(node), strict=True))
    axes = [
        axis
        for axis in range(shapes.rank(source))
        if all(
            before[axis] == after[window.axis] and math.prod(before[:axis]) == math.prod(after[: window.axis])
            for before, after in pairs
        )
    ]
    return {source: window.along(axes[0])} if axes else None


RULES: dict[Any, Rule] = {
    aten.linear: _linear,
    aten.prelu: _prelu,
    aten.layer_norm: _norm,
    aten.rms_norm: _norm,
    aten.softmax: _softmax,
    aten._softmax: _softmax,
    aten.matmul: _matmul,
    aten.bmm: _matmul,
    aten.scaled_dot_product_attention: _attention,
    aten.permute: _permute,
    aten.transpose: _permute,
    aten.reshape: _reshape,
    aten.view: _reshape,
    aten._unsafe_view: _reshape,
    aten.flatten: _reshape,
    aten.slice: _slice,
    aten.unflatten: _reshape,
}
SIZED = {aten.reshape: 1, aten.view: 1, aten._unsafe_view: 1}  # the place of the sizes among the arguments
MULTIPLY = {aten.linear, aten.matmul, aten.bmm, aten.scaled_dot_product_attention}
