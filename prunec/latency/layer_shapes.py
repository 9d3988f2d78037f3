"""Describe layers as an engine sees them: the computation and the input size, without widths.

Layers of one shape and equal widths take the same time and are measured once. A layer that may be factored has the
shapes of its parts as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import fx

from ..channels import factorings as factoring
from ..channels.rules.contraction import argument
from ..channels.spaces import Channels, Contraction, Split
from ..ir import graph
from ..ir.program import Program
from ..selection.interface import Decomposer

CONVOLUTION, TRANSPOSED, LINEAR = "conv", "conv-transposed", "linear"
RELU, CLIP = "relu", "clip"
ACTIVATIONS: dict[Any, str] = {
    torch.ops.aten.relu: RELU, torch.ops.aten.clamp: CLIP, torch.ops.aten.hardtanh: CLIP,
}  # fmt: skip
Sizes = tuple[int, ...]


@dataclass(frozen=True, order=True)
class LayerShape:
    """Convolution or linear layer without its weights and numbers of channels."""

    op: str
    size: Sizes  # of its input, without batch and channels
    kernel: Sizes = ()
    stride: Sizes = ()
    padding: Sizes = ()
    dilation: Sizes = ()
    groups: int = 1
    group: Sizes = ()  # channels that a group reads and makes if whole groups are removed; `groups` is 1 then
    after: str = ""  # the activation behind it, RELU or CLIP, which engines compute in the same kernel

    def __str__(self) -> str:
        """Return the short form, `conv 3x3 s2 on 32x32`."""
        then = f" {self.after}" if self.after else ""
        if self.op == LINEAR:
            return f"linear{then} on {_times(self.size)}" if self.size else f"linear{then}"
        dilated = f" d{_short(self.dilation)}" if set(self.dilation) != {1} else ""
        grouped = f" in groups of {_times(self.group)}" if self.group else f" in {self.groups} groups"
        stride = f" s{_short(self.stride)}" if set(self.stride) != {1} else ""
        tail = grouped if self.group or self.groups > 1 else ""
        padded = f" p{_short(self.padding)}" if any(self.padding) else ""
        return f"{self.op}{then} {_times(self.kernel)}{stride}{padded}{dilated}{tail} on {_times(self.size)}"

    def to_json(self) -> list[Any]:
        """Return the fields in order."""
        return list(astuple(self))

    @staticmethod
    def from_json(fields: Sequence[Any]) -> LayerShape:
        """Invert `to_json`."""
        values: list[Any] = [tuple(one) if isinstance(one, list) else one for one in fields]
        return LayerShape(*values)


@dataclass(frozen=True)
class Layer:
    """Contraction of a network, its shape, and the shapes of its parts, if any."""

    one: Contraction
    product: int  # its index in `Channels.products`
    shape: LayerShape
    parts: tuple[LayerShape, ...] = ()
    full: int = 0  # full rank: the layer is whole
    rank: int | None = None  # index of its rank space among the prunable spaces; None without one


def layers_of(program: Program) -> list[Layer]:
    """List every contraction that a table can time."""
    return _layers(program, graph.example_values(program.module, program.example_inputs))


def all_layers_of(program: Program, decomposer: Decomposer) -> list[Layer]:
    """List the layers of `layers_of`, and a copy for each way to factor them."""
    channels = program.fact(Channels)
    values = graph.example_values(program.module, program.example_inputs)
    nodes = {node.name: node for node in values}
    found = _layers(program, values)
    for layer in list(found):
        one, product = layer.one, channels.products[layer.product]
        if not factoring.may_split(channels, one, nodes[one.node]):
            continue
        for split in decomposer.splits(layer.shape.kernel):
            full = factoring.even(one, factoring.of(one, split, product, nodes[one.node], values), product)
            found.append(replace(layer, parts=parts_of(layer.shape, split), full=full))
    return found


def parts_of(shape: LayerShape, split: Split) -> tuple[LayerShape, ...]:
    """Return the shapes of the parts; stride and padding follow the taps of an axis."""
    last = len(split.layers) - 1
    if shape.op == LINEAR:
        return (*(replace(shape, after=""),) * last, shape)
    parts, size = [], shape.size
    for number, axes in enumerate(split.layers):
        kernel, stride, padding, dilation = (
            tuple(value if mine else other for value, mine in zip(values, axes, strict=True))
            for values, other in ((shape.kernel, 1), (shape.stride, 1), (shape.padding, 0), (shape.dilation, 1))
        )
        after = shape.after if number == last else ""
        parts.append(LayerShape(shape.op, size, kernel, stride, padding, dilation, after=after))
        size = _output(parts[-1])
    return tuple(parts)


def _layers(program: Program, values: graph.Values) -> list[Layer]:
    channels = program.fact(Channels)
    nodes = {node.name: node for node in values}
    places = {product.node: number for number, product in enumerate(channels.products)}
    names = [space.name for space in channels.prunable]
    factorings = {one.node: one for one in channels.factorings}
    found = []
    for one in channels.contractions:
        shape = _shape_of(program, one, nodes[one.node], values)
        if shape is None or one.node not in places:
            continue
        factored = factorings.get(one.node)
        if factored is None:
            found.append(Layer(one, places[one.node], shape))
        else:
            parts = parts_of(shape, factored.split)
            rank = names.index(factored.space)
            found.append(Layer(one, places[one.node], shape, parts, channels.prunable[rank].size, rank))
    return found


def _output(shape: LayerShape) -> Sizes:
    along = zip(shape.size, shape.kernel, shape.stride, shape.padding, shape.dilation, strict=True)
    return tuple((n + 2 * pad - dilation * (k - 1) - 1) // step + 1 for n, k, step, pad, dilation in along)


def _shape_of(program: Program, one: Contraction, node: fx.Node, values: graph.Values) -> LayerShape | None:
    """Return the layer's shape; None without a batch axis or with asymmetric padding."""
    source = values[node.all_input_nodes[0]]
    kernel = tuple(graph.attribute(program.module, one.weight).shape[2:])
    after = _activation(node)
    if not kernel:
        return LayerShape(LINEAR, _rows(source.shape, len(program.example_inputs[0])), after=after)
    if source.dim() != len(kernel) + 2 or isinstance(argument(node, "padding"), str):
        return None
    stride, padding, dilation = (
        _spread(argument(node, name), len(kernel)) for name in ("stride", "padding", "dilation")
    )
    op = TRANSPOSED if one.transposed else CONVOLUTION
    grouped = (one.width, len(one.outputs) // one.groups) if one.by_group else ()
    groups = 1 if grouped else one.groups
    return LayerShape(op, tuple(source.shape[2:]), kernel, stride, padding, dilation, groups, grouped, after)


def _rows(shape: torch.Size, batch: int) -> Sizes:
    """Return the rows of one sample that a linear layer multiplies. They are one number if the batch is not first."""
    if shape[0] == batch:
        return tuple(shape[1:-1])
    rows = shape[:-1].numel()
    return (rows // batch,) if rows % batch == 0 and rows > batch else tuple(shape[1:-1])


def _activation(node: fx.Node) -> str:
    """Return the activation that is the only reader of the value; empty if none."""
    users = list(node.users)
    packet = getattr(users[0].target, "overloadpacket", None) if len(users) == 1 else None
    return ACTIVATIONS.get(packet, "")


def _spread(value: Any, axes: int) -> Sizes:
    given = (value,) if isinstance(value, int) else tuple(value)
    return given * axes if len(given) == 1 else given


def _times(sizes: Sizes) -> str:
    return "x".join(map(str, sizes))


def _short(sizes: Sizes) -> str:
    return str(sizes[0]) if len(set(sizes)) == 1 else _times(sizes)
