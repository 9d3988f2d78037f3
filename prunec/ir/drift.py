"""Measure how far the outputs of two networks lie apart, and how far rounding alone moves them.

    drift = max over the outputs of  max|b − a| / max|a|     over the numbers that are finite in a
          = share of the entries that differ                 of an output of whole numbers or truth values

Equal infinities agree, and what is NaN in a already is no fault of b.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx

from ..device import full_float32

LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # of what is exact
SHORT = (torch.float32, torch.float16, torch.bfloat16)
ROUNDINGS = 10.0  # times the rounding error of the network itself, and a drift may be no more than that


def limit_of(tensors: Iterable[Tensor]) -> float:
    """Return the largest drift between equal networks that hold such tensors: that of the coarsest precision."""
    return max((LIMITS.get(one.dtype, 0.0) for one in tensors), default=0.0) or LIMITS[torch.float32]


@torch.no_grad()
def outputs_of(module: fx.GraphModule, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run a network; return the tensors among its outputs."""
    with full_float32():
        found = pytree.tree_leaves(module(*inputs))
    return [value for value in found if isinstance(value, Tensor)]


def drift(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Return the relative change of outputs; infinite for other shapes, NaN where numbers became NaN."""
    if [(one.shape, one.dtype) for one in before] != [(one.shape, one.dtype) for one in after]:
        return math.inf
    found = [_moved(a, b) for a, b in zip(before, after, strict=True) if a.numel() and not torch.equal(a, b)]
    return math.nan if any(map(math.isnan, found)) else max(found, default=0.0)


def rounding(module: fx.GraphModule, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> float:
    """Return how far the outputs of a network lie from those in float64; 0 where it cannot run in float64."""
    wide = tuple(one.double() if one.is_floating_point() else one for one in inputs)
    try:
        found = outputs_of(in_float64(module), wide)
    except RuntimeError:  # an operator that has no float64 form, or a type that the graph writes out
        return 0.0
    return drift(outputs, [one.to(old.dtype) for one, old in zip(found, outputs, strict=True)])


def allowed(module: fx.GraphModule, runs: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]], found: float) -> float:
    """Return the drift that rounding explains, at most; `runs` are inputs and outputs of the network before.

    It is the limit of its precision; where `found` is more, also some times the rounding error of its own, measured.
    """
    held = [*module.parameters(), *module.buffers()]
    limit = limit_of([*held, *(one for _, outputs in runs for one in outputs)])
    if found <= limit or not math.isfinite(found):
        return limit
    return max(limit, ROUNDINGS * max((rounding(module, *pair) for pair in runs), default=0.0))


def _moved(a: Tensor, b: Tensor) -> float:
    if not (a.is_floating_point() or a.is_complex()):
        return float((a != b).double().mean())
    a, b = (_real(one) for one in (a, b))
    known = ~a.isnan()
    if bool(b[known].isnan().any()):
        return math.nan
    finite = a.isfinite()
    if bool((a != b)[known & ~finite].any()):
        return math.inf
    if not bool(finite.any()):
        return 0.0
    return float((a - b)[finite].abs().max() / a[finite].abs().max().clamp_min(1e-30))


def _real(value: Any) -> Tensor:
    real: Tensor = torch.view_as_real(value) if value.is_complex() else value
    return real.double()


def in_float64(module: fx.GraphModule) -> fx.GraphModule:
    """A copy in double precision, casts to single and half precision included."""
    double = copy.deepcopy(module).double()
    for node in double.graph.nodes:
        node.args, node.kwargs = (_widened(value) for value in (node.args, node.kwargs))
    double.recompile()
    return double


def _widened(value: Any) -> Any:
    return pytree.tree_map(lambda leaf: torch.float64 if leaf in SHORT else leaf, value)
