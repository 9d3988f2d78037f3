"""Import reductions.

Sources: the pages https://onnx.ai/onnx/operators/onnx__ReduceNAME.html, onnx__ArgMax.html, onnx__CumSum.html,
onnx__TopK.html.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..node import Node, is_number, numbers_of, operator


def _sum_square(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return (x * x).sum(axes, keepdim=keep)


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((one % x.dim() for one in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


REDUCTIONS: dict[str, Any] = {
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: _sum_square(x, axes, keep).sqrt(),
    "ReduceSumSquare": _sum_square,
    "ReduceProd": _prod,
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
}


@operator(*REDUCTIONS, numbers=(1,))
def reduce(node: Node, x: Any, axes: Any = None) -> Any:
    """Import a reduction over axes, given as an input or an attribute; over all without."""
    given = node.get("axes") if axes is None else numbers_of(node, axes)
    keep = bool(node.get("keepdims", 1))
    if is_number(x):
        return _of_numbers(node, x, keep)
    if not given:
        if node.get("noop_with_empty_axes", 0):
            return REDUCTIONS[node.kind](x.unsqueeze(0), [0], False)
        given = list(range(x.dim()))
    return REDUCTIONS[node.kind](x, list(given), keep) if given else x


def _of_numbers(node: Node, x: Any, keep: bool) -> Any:
    known = {"ReduceProd": math.prod, "ReduceSum": sum, "ReduceMax": max, "ReduceMin": min}
    if node.kind not in known:
        raise node.refuse("it reduces a list of sizes")
    found = known[node.kind](x if isinstance(x, list) else [x])  # type: ignore[operator]
    return [found] if keep and isinstance(x, list) else found


@operator("ArgMax", "ArgMin")
def arg(node: Node, x: Tensor) -> Tensor:
    """Import `ArgMax` and `ArgMin`, of the first among equals."""
    if node.get("select_last_index", 0):
        raise node.refuse("select_last_index is set")
    function = torch.argmax if node.kind == "ArgMax" else torch.argmin
    return function(x, dim=node.get("axis", 0), keepdim=bool(node.get("keepdims", 1)))


@operator("CumSum", numbers=(1,))
def cumulative_sum(node: Node, x: Tensor, axis: Any) -> Tensor:
    """Import `CumSum` in its plain form."""
    if node.get("exclusive", 0) or node.get("reverse", 0):
        raise node.refuse("exclusive or reverse is set")
    return torch.cumsum(x, dim=numbers_of(node, axis)[0], dtype=x.dtype)


@operator("TopK", numbers=(1,))
def top_k(node: Node, x: Tensor, count: Any) -> tuple[Tensor, Tensor]:
    """Import `TopK`."""
    largest, ordered = bool(node.get("largest", 1)), bool(node.get("sorted", 1))
    found = torch.topk(x, numbers_of(node, count)[0], node.get("axis", -1), largest, ordered)
    return found.values, found.indices
