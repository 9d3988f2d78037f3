"""Write as linear layers what is one: x W with a parameter W, and a convolution over the channel axis.

    x @ W = linear(x, W')
    conv1d(x, w) with padding p, over x [N, 1, C], = linear(x, B) with B[i, i + j - p] = w[j]

The second is the gate of ECA-Net (Wang et al. 2020): a banded linear map of the channels. As a linear layer its
channels can go; as a convolution they are places along a line, which can not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from prunec import graph
from prunec.channels.contraction import argument
from prunec.channels.walk import overload_packet
from prunec.pipeline import Pass
from prunec.program import Context, Program

aten = torch.ops.aten
MOVES = {aten.view, aten._unsafe_view, aten.reshape, aten.transpose, aten.permute, aten.squeeze, aten.unsqueeze}
WIDEST = 4096  # channels of the largest banded map that is written out


@dataclass(frozen=True)
class AsLinear(Pass):
    """Turn products with parameters, and ECA gates, into linear layers; the outputs stay as they are."""

    rewrites = True
    exact = True

    def run(self, program: Program, context: Context) -> Program:
        """The network with more linear layers."""
        module = graph.rebuild(program.module, {})
        examples = graph.example_values(module, program.example_inputs)
        for node in list(module.graph.nodes):
            if (found := _matrix(module, node) or _band(module, node, examples)) is not None:
                _replace(module, node, *found)
        module.graph.eliminate_dead_code()
        module.recompile()
        return program.rewritten(graph.rebuild(module, {}))


Found = tuple[fx.Node, Tensor, "Tensor | None", str]  # input, weight [O, I], bias, name of the parameter


def _matrix(module: fx.GraphModule, node: fx.Node) -> Found | None:
    """x @ W, or b + x @ W."""
    packet = overload_packet(node)
    if packet not in (aten.matmul, aten.mm, aten.addmm):
        return None
    source, matrix = node.args[-2:] if packet is not aten.addmm else node.args[1:3]
    added = node.args[0] if packet is aten.addmm else None
    constant = [one for one in (matrix, added) if one is not None]
    if any(not isinstance(one, fx.Node) or one.op != "get_attr" for one in constant) or node.kwargs:
        return None
    weight = graph.attribute(module, str(matrix.target))  # type: ignore[union-attr]
    bias = None if added is None else graph.attribute(module, str(added.target))  # type: ignore[union-attr]
    if weight.dim() != 2 or (bias is not None and bias.shape != weight.shape[1:]) or not isinstance(source, fx.Node):
        return None
    return source, weight.mT.contiguous(), bias, str(matrix.target)  # type: ignore[union-attr]


def _band(module: fx.GraphModule, node: fx.Node, examples: graph.Values) -> Found | None:
    """A convolution of one channel along [N, 1, C], where C came from a channel axis."""
    weight: Any = argument(node, "weight") if overload_packet(node) is aten.conv1d else None
    bias = None if weight is None else argument(node, "bias")
    if weight is None or weight.op != "get_attr" or (bias is not None and bias.op != "get_attr"):
        return None
    kernel, count = graph.attribute(module, weight.target), examples[node].shape[-1]
    plain = tuple(kernel.shape[:2]) == (1, 1) and list(argument(node, "stride")) == [1]
    source: Any = node.args[0]
    if not plain or list(argument(node, "dilation")) != [1] or count != examples[source].shape[-1]:
        return None
    if count > WIDEST or not kernel.shape[-1] % 2 or not _was_axis_one(source, examples, count):
        return None
    band = kernel.new_zeros(count, count)
    for place, value in enumerate(kernel.flatten(), start=-(kernel.shape[-1] // 2)):
        band.diagonal(place).fill_(value)
    shift = None if bias is None else graph.attribute(module, bias.target).expand(count).contiguous()
    return source, band, shift, weight.target


def _was_axis_one(node: fx.Node, examples: graph.Values, count: int) -> bool:
    """Whether mere views lead back to a value with `count` entries along axis 1 and one place each."""
    while overload_packet(node) in MOVES:  # ends: a graph has no circle
        node = node.all_input_nodes[0]
        shape = examples[node].shape
        if len(shape) > 1 and shape[1] == count and shape.numel() == shape[0] * count:
            return True
    return False


def _replace(
    module: fx.GraphModule, node: fx.Node, source: fx.Node, weight: Tensor, bias: Tensor | None, name: str
) -> None:
    if graph.reads(module.graph, name) > 1:
        name = _stored(module, f"{name}_linear", weight)
    graph.assign(module, name, weight)
    shift = None if bias is None else _stored(module, f"{name}_bias", bias)
    with module.graph.inserting_before(node):
        arguments = [source, module.graph.get_attr(name)]
        if shift is not None:
            arguments.append(module.graph.get_attr(shift))
        linear = module.graph.call_function(aten.linear.default, tuple(arguments))
    node.replace_all_uses_with(linear)


def _stored(module: fx.GraphModule, name: str, tensor: Tensor) -> str:
    """Store a tensor beside the others; return its name, which is `name` unless another tensor has that."""
    read = {str(one.target) for one in module.graph.nodes if one.op == "get_attr"}
    while name in read and not torch.equal(graph.attribute(module, name), tensor):  # ends: finitely many names are read
        name += "_"
    graph.assign(module, name, tensor)
    return name
