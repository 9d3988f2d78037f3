"""Attention without heads, [N, tokens, width], as attention with one: the ONNX exporter knows the second alone."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx

from .. import graph

aten = torch.ops.aten


def with_heads(module: fx.GraphModule, inputs: tuple[Tensor, ...]) -> fx.GraphModule:
    """A copy in which every fused attention has four dimensions; the module itself where each has."""
    if not any(_is_attention(node) for node in module.graph.nodes):
        return module
    examples = graph.example_values(module, inputs)
    flat = {node.name for node in examples if _is_attention(node) and examples[node].dim() == 3}
    if not flat:
        return module
    copied = copy.deepcopy(module)
    for node in [one for one in copied.graph.nodes if one.name in flat]:
        with copied.graph.inserting_before(node):
            for source in node.all_input_nodes[:4]:
                node.replace_input_with(source, copied.graph.call_function(aten.unsqueeze.default, (source, 1)))
        with copied.graph.inserting_after(node):
            narrow = copied.graph.call_function(aten.squeeze.dim, (node, 1))
        node.replace_all_uses_with(narrow, delete_user_cb=lambda user, narrow=narrow: user is not narrow)
    copied.recompile()
    return copied


def _is_attention(node: fx.Node) -> bool:
    return getattr(node.target, "overloadpacket", None) is aten.scaled_dot_product_attention
