"""Apply a plan: slice parameters, install refits, rewrite channel counts.

Only this file changes shapes. Each parameter is sliced along the dimensions of a space, or replaced by its refit;
numbers in the graph that count channels (`view`, `split`, `pad`, `groups` …) are rewritten from the channel axes. The
add of a removed residual branch becomes an alias of its shortcut.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from ..channels.matrix import groups_after
from ..channels.rules.contraction import argument
from ..channels.spaces import Contraction
from ..errors import PassError
from ..ir import graph
from .arguments import narrow_arguments
from .bypass import bypass
from .plan import Plan


class UnfitError(PassError):
    """A node whose arguments cannot be rewritten; the analysis then freezes its channels."""

    def __init__(self, node: str, message: str) -> None:
        super().__init__(message)
        self.node = node


def apply(module: fx.GraphModule, plan: Plan) -> fx.GraphModule:
    """Return the narrow network. Raises PassError where a space would have no channel."""
    branches = {one.space for one in plan.channels.branches}
    empty = [name for name, keep in plan.keep.items() if not keep and name not in branches]
    if empty:
        raise PassError(f"nothing would be left of {', '.join(empty)}; keep at least one coordinate of each space")
    mask = plan.mask
    tensors = {name: narrow(graph.attribute(module, name), name, plan, mask) for name in touched(plan)}
    tensors.update(plan.refit)
    by_node = {one.node: one for one in plan.channels.contractions}

    def edit(old: fx.Node, new: fx.Node) -> None:
        if bypass(old, new, plan):
            return
        if (one := by_node.get(old.name)) is not None:
            _narrow_groups(new, one, mask)
            return
        try:
            narrow_arguments(module, old, new, plan.channels.values, mask, tensors)
        except (ArithmeticError, AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UnfitError(old.name, f"the arguments of {old.name} cannot be made narrow: {error}") from error

    return graph.rebuild(module, tensors, edit, plan.gone)


def touched(plan: Plan) -> list[str]:
    """Return the parameters with a channel axis, once each."""
    return list(dict.fromkeys(name for name, _ in plan.channels.parameters))


def narrow(tensor: Tensor, name: str, plan: Plan, mask: Tensor) -> Tensor:
    """Return the kept rows of a parameter."""
    for dim in range(tensor.dim()):
        rows = plan.channels.parameters.get((name, dim))
        if rows is not None and not bool(mask[rows].all()):
            tensor = tensor.index_select(dim, mask[rows].nonzero().flatten().to(tensor.device))
    return tensor.contiguous()


def _narrow_groups(node: fx.Node, one: Contraction, mask: Tensor) -> None:
    if not one.by_group:
        return
    groups = groups_after(one, mask)
    place = [item.name for item in node.target._schema.arguments].index("groups")  # type: ignore[union-attr]
    arguments: list[Any] = [argument(node, item.name) for item in node.target._schema.arguments]  # type: ignore[union-attr]
    arguments[place] = groups
    node.args, node.kwargs = tuple(arguments), {}
