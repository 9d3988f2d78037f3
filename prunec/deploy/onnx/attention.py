"""Reshape fused attention to four dimensions, the only rank that exports.

Inputs are [N, tokens, width] or [N, …, heads, tokens, width].
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx

from ...ir import graph

aten = torch.ops.aten


def with_heads(module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    """Return a copy with four-dimensional attention only; `module` itself if nothing changes."""
    if not any(_is_attention(node) for node in module.graph.nodes):
        return module
    examples = graph.example_values(module, inputs)
    odd = {node.name: examples[node].dim() for node in examples if _is_attention(node) and examples[node].dim() != 4}
    if not odd:
        return module
    copied, shapes = copy.deepcopy(module), {node.name: examples[node].shape for node in examples if node.name in odd}
    for node in [one for one in copied.graph.nodes if one.name in odd]:
        _reshape(copied.graph, node, shapes[node.name])
    copied.recompile()
    return copied


def _reshape(nodes: fx.Graph, node: fx.Node, shape: torch.Size) -> None:
    """Make one attention four-dimensional, and reshape its result back."""
    missing = len(shape) < 4
    into: Any = (aten.unsqueeze.default, 1) if missing else (aten.flatten.using_ints, 0, len(shape) - 4)
    back: Any = (aten.squeeze.dim, 1) if missing else (aten.unflatten.int, 0, [-1, *shape[1 : len(shape) - 3]])
    with nodes.inserting_before(node):
        for source in node.all_input_nodes[:4]:
            node.replace_input_with(source, nodes.call_function(into[0], (source, *into[1:])))
    with nodes.inserting_after(node):
        own = nodes.call_function(back[0], (node, *back[1:]))
    node.replace_all_uses_with(own, delete_user_cb=lambda user: user is not own)


def _is_attention(node: fx.Node) -> bool:
    return getattr(node.target, "overloadpacket", None) is aten.scaled_dot_product_attention
