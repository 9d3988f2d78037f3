"""Read strides, dilations and pads of sliding windows.

Pads and `auto_pad` become symmetric padding, or an explicit pad.
ONNX lists pads as all begins, then all ends: https://onnx.ai/onnx/operators/onnx__Conv.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ..node import Node


def by_rank(node: Node, functions: Sequence[Any], rank: int) -> Any:
    """Return the one of three functions for `rank` spatial axes. Raises CaptureError for other ranks."""
    if not 1 <= rank <= 3:
        raise node.refuse(f"it has {rank} spatial axes, and PyTorch has convolutions and pools of 1 to 3")
    return functions[rank - 1]


def steps_of(node: Node, rank: int) -> tuple[list[int], list[int]]:
    """Return strides and dilations of the spatial axes, 1 where the node has none."""
    return node.get("strides") or [1] * rank, node.get("dilations") or [1] * rank


def pads_of(node: Node, x: Tensor, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the pads at the begins and at the ends of the spatial axes."""
    rank = len(kernel)
    mode = node.get("auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * rank, [0] * rank
    if mode == "NOTSET":
        pads = list(node.get("pads") or [0] * (2 * rank))
        return pads[:rank], pads[rank:]
    strides, dilations = steps_of(node, rank)
    begins, ends = [], []
    for size, width, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if mode == "SAME_UPPER" else more)
        ends.append(more if mode == "SAME_UPPER" else less)
    return begins, ends


def padded(x: Tensor, begins: Sequence[int], ends: Sequence[int], value: float = 0.0) -> Tensor:
    """Return `x` [N, C, …] padded in its last axes."""
    pairs = [one for pair in reversed(list(zip(begins, ends, strict=True))) for one in pair]
    return F.pad(x, pairs, value=value) if any(pairs) else x


def symmetric(x: Tensor, begins: list[int], ends: list[int], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """Return the input and the symmetric padding that is left to the operator."""
    if begins == ends:
        return x, begins
    return padded(x, begins, ends, value), [0] * len(begins)
