"""Import what picks entries by index.

Sources: https://onnx.ai/onnx/operators/onnx__Gather.html, onnx__GatherElements.html, onnx__Trilu.html.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..node import Node, is_number, numbers_of, operator, tensor_of


@operator("Gather")
def gather(node: Node, x: Any, indices: Any) -> Any:
    """Import `Gather`: one index selects, several index, a table over its rows embeds."""
    axis = node.get("axis", 0)
    if is_number(x):
        return _of_numbers(node, x, indices)
    if is_number(indices):
        count = x.shape[axis]
        if not isinstance(indices, list):
            return torch.select(x, axis, indices)
        if isinstance(indices[0], list):
            return _one_row(x, axis % x.dim(), indices)
        wanted = [one + count if one < 0 else one for one in indices]
        return torch.index_select(x, axis, tensor_of(wanted, x))
    if axis == 0 and x.dim() == 2:
        return F.embedding(indices, x)
    axis %= x.dim()
    flat = torch.index_select(x, axis, indices.reshape(-1))
    return flat.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _one_row(x: Tensor, axis: int, index: Any) -> Tensor:
    """Return one entry of an axis, as many axes as lists are nested."""
    levels = 0
    while isinstance(index, list):
        index, levels = index[0], levels + 1
    found = torch.narrow(x, axis, index + x.shape[axis] if index < 0 else index, 1)
    for _ in range(levels - 1):
        found = found.unsqueeze(axis)
    return found


def _of_numbers(node: Node, x: Any, indices: Any) -> Any:
    if isinstance(indices, list):
        return [x[one] for one in indices]
    return x[numbers_of(node, indices)[0]]


@operator("GatherElements")
def gather_elements(node: Node, x: Tensor, indices: Any) -> Tensor:
    """Import `GatherElements`."""
    axis, indices = node.get("axis", 0), tensor_of(indices, x)
    return torch.gather(x, axis, torch.where(indices < 0, indices + x.shape[axis], indices))


@operator("Trilu", numbers=(1,))
def trilu(node: Node, x: Tensor, diagonal: Any = 0) -> Tensor:
    """Import `Trilu`."""
    offset = numbers_of(node, diagonal)[0]
    return torch.triu(x, offset) if node.get("upper", 1) else torch.tril(x, offset)
