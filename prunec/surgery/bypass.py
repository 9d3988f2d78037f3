"""Rewire a network around its removed residual branches."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from ..channels.interpreter import overload_packet
from ..ir import graph
from .plan import Plan

aten: Any = torch.ops.aten
IDEMPOTENT = {aten.relu, aten.hardtanh, aten.clamp, aten.clamp_min}  # twice is once


def bypass(old: fx.Node, new: fx.Node, plan: Plan) -> bool:
    """Replace the add of a removed branch by an alias of its shortcut. Returns whether `old` was one."""
    shortcut = plan.bypassed.get(old.name)
    if shortcut is None:
        return False
    place = [source.name for source in old.args[:2] if isinstance(source, fx.Node)].index(shortcut)
    new.target, new.args, new.kwargs = aten.alias.default, (new.args[place],), {}
    return True


def tidied(module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """Remove aliases of shortcuts, and idempotent activations applied twice in a row."""
    copy = graph.rebuild(module, {})
    for node in list(copy.graph.nodes):
        if node.name in plan.bypassed:
            (source,) = node.all_input_nodes
            readers = list(node.users)
            node.replace_all_uses_with(source)
            for reader in readers:
                if _repeats(reader, source):
                    reader.replace_all_uses_with(source)
                    copy.graph.erase_node(reader)
            copy.graph.erase_node(node)
    return graph.rebuild(copy, {})


def _repeats(reader: fx.Node, source: fx.Node) -> bool:
    same = reader.target == source.target and overload_packet(reader) in IDEMPOTENT
    return same and (reader.args[1:], reader.kwargs) == (source.args[1:], source.kwargs)
