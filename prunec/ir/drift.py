"""Measure the drift between the outputs of two networks, and that of rounding alone.

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

LIMITS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # by dtype
SHORT = (torch.float32, torch.float16, torch.bfloat16)
ROUNDINGS = 10.0  # allowed drift / rounding error of the network


def limit_of(tensors: Iterable[Tensor]) -> float:
    """Return the largest drift between equal networks, by the coarsest precision among the tensors."""
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
    """Compute the drift of a network from its float64 run; 0 where that fails."""
    wide = tuple(one.double() if one.is_floating_point() else one for one in inputs)
    try:
        found = outputs_of(in_float64(module), wide)
    except RuntimeError:  # no float64 form, or a dtype fixed in the graph
        return 0.0
    return drift(outputs, [one.to(old.dtype) for one, old in zip(found, outputs, strict=True)])


def allowed(module: fx.GraphModule, runs: Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]], found: float) -> float:
    """Return the largest drift that rounding explains; `runs` are inputs and outputs of one network.

    It is the limit of the precision or, where `found` exceeds it, a multiple of the network's own rounding error,
    measured.
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
    """Return a copy in double precision, casts to single and half precision included."""
    double = copy.deepcopy(module).double()
    for node in double.graph.nodes:
        node.args, node.kwargs = pytree.tree_map(
            lambda leaf: torch.float64 if leaf in SHORT else leaf, (node.args, node.kwargs)
        )
    double.recompile()
    return double
