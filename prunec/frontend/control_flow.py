"""Dissolve blocks that torch.export keeps whole: `autocast`, `no_grad` and `torch.cond`.

`run_decompositions` dissolves a block that changes nothing in inference. A branch with a constant condition is replaced
by its side. Anything else would hide layers from the analysis, and is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from ..errors import CaptureError
from ..ir import graph
from .diagnosis import place_of

HIGHER = torch._ops.HigherOrderOperator
BLOCKS = ("wrap_with_autocast", "wrap_with_set_grad_enabled")


def has_blocks(exported: ExportedProgram) -> bool:
    """Return whether a program holds `autocast` or `no_grad` blocks."""
    return any(_higher(node) in BLOCKS for node in _all_nodes(exported.graph_module))


def require_full_precision(exported: ExportedProgram, device: torch.device) -> None:
    """Raise CaptureError for an `autocast` block in half precision on `device`."""
    for node in _all_nodes(exported.graph_module):
        if _higher(node) == "wrap_with_autocast" and node.args[0] == device.type and node.args[2]:
            raise CaptureError(
                f"{place_of(node)} computes in {node.args[1]} inside torch.autocast, and prunec needs the precision of"
                " the weights: leave the block out, or enabled=False; the precision of what is written is chosen with"
                " prunec cast, or of the network with net.to(dtype)"
            )


def without_branches(module: fx.GraphModule) -> None:
    """Replace each `torch.cond` with a constant condition by its side, in place. Raises CaptureError for any other.

    Ends, since each round replaces one of finitely many.
    """
    while (node := next((one for one in module.graph.nodes if _higher(one)), None)) is not None:
        chosen = _constant(module, node.args[0]) if _higher(node) == "cond" else None
        if chosen is None:
            raise _refusal(node)
        branch: Any = node.args[1 if bool(chosen) else 2]
        _inline(module, node, module.get_submodule(str(branch.target)), list(node.args[3]))
    module.graph.eliminate_dead_code()


def _refusal(node: fx.Node) -> CaptureError:
    place, path = place_of(node), place_of(node).partition(" ")[0]
    keep = f", or leave the module as it is with --opaque {path} (opaque=('{path}',) in Python)"
    return CaptureError(
        f"{place} branches or loops on values, with torch.{_higher(node)}, and prunec cannot follow channels through"
        f" it: capture the side that is used, in a network of its own{keep if place != 'the network' else ''}"
    )


def _higher(node: fx.Node) -> str | None:
    """Return the name of a higher-order operator, None for any other node."""
    return node.target.name() if node.op == "call_function" and isinstance(node.target, HIGHER) else None


def _all_nodes(module: fx.GraphModule) -> Iterator[fx.Node]:
    for part in module.modules():
        if isinstance(part, fx.GraphModule):
            yield from part.graph.nodes


def _constant(module: fx.GraphModule, value: Any) -> Any:
    """Return the value of an argument that depends on no input, else None."""
    if not isinstance(value, fx.Node):
        return value
    needed = set(graph.reached([value], lambda node: node.all_input_nodes))
    if any(one.op not in ("get_attr", "call_function") or _higher(one) for one in needed):
        return None
    values: dict[fx.Node, Any] = {}
    with torch.no_grad():
        for node in (one for one in module.graph.nodes if one in needed):
            values[node] = graph.run_node(module, node, values)
    return values[value]


def _inline(module: fx.GraphModule, node: fx.Node, inner: Any, arguments: list[Any]) -> None:
    """Replace `node`, whose outputs are read one by one, by the nodes of `inner`."""
    copies: dict[fx.Node, Any] = {}
    given = iter(arguments)
    with module.graph.inserting_before(node):
        for one in inner.graph.nodes:
            if one.op == "placeholder":
                copies[one] = next(given)
            elif one.op == "get_attr":
                copies[one] = module.graph.get_attr(_adopted(module, inner, one))
            elif one.op != "output":
                copies[one] = module.graph.node_copy(one, copies.__getitem__)
    output = next(one for one in inner.graph.nodes if one.op == "output")
    found = pytree.tree_leaves(fx.map_arg(output.args[0], copies.__getitem__))
    for user in list(node.users):
        if user.target is not operator.getitem:
            raise _refusal(node)
        user.replace_all_uses_with(found[int(str(user.args[1]))])
        module.graph.erase_node(user)
    module.graph.erase_node(node)


def _adopted(module: fx.GraphModule, inner: Any, node: fx.Node) -> str:
    """Return the name in `module` of a tensor or nested graph that `inner` reads."""
    name = f"branch_{len(list(module.named_modules()))}_{str(node.target).replace('.', '_')}"
    value = operator.attrgetter(str(node.target))(inner)
    if isinstance(value, Tensor):
        graph.assign(module, name, value)
    else:
        module.add_submodule(name, value)
    return name
