"""Import `Resize` in the forms that PyTorch's interpolation computes too.

Source: https://onnx.ai/onnx/operators/onnx__Resize.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..node import Node, numbers_of, operator

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


@operator("Resize", numbers=(1, 2, 3))
def resize(node: Node, x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None) -> Tensor:
    """Import `Resize` of the spatial axes: nearest, linear or cubic."""
    if node.get("antialias", 0) or node.get("exclude_outside", 0):
        raise node.refuse("antialias or exclude_outside is set")
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise node.refuse("keep_aspect_ratio_policy is set")
    rank, axes = x.dim() - 2, node.get("axes") or list(range(x.dim()))
    factors = dict(zip(axes, numbers_of(node, scales), strict=True)) if _given(scales) else None
    target = dict(zip(axes, numbers_of(node, sizes), strict=True)) if _given(sizes) else None
    if factors is not None and any(factors.get(axis, 1) != 1 for axis in (0, 1)):
        raise node.refuse("it resizes the batch or the channels")
    if target is not None:
        wanted = [target.get(axis, x.shape[axis]) for axis in range(2, x.dim())]
        ratio = None
    else:
        assert factors is not None
        ratio = [float(factors.get(axis, 1)) for axis in range(2, x.dim())]
        wanted = [int(size * factor) for size, factor in zip(x.shape[2:], ratio, strict=True)]
    return _interpolated(node, x, wanted, ratio, rank)


def _given(value: Any) -> bool:
    return value is not None and not (isinstance(value, list) and not value)


def _interpolated(node: Node, x: Tensor, wanted: list[Any], ratio: list[float] | None, rank: int) -> Tensor:
    mode, place = node.get("mode", "nearest"), node.get("coordinate_transformation_mode", "half_pixel")
    if mode == "nearest":
        return _nearest(node, x, wanted, place)
    if mode == "cubic" and (rank != 2 or node.get("cubic_coeff_a", -0.75) != -0.75):
        raise node.refuse("PyTorch has cubic interpolation in two axes with the coefficient -0.75 alone")
    if place not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise node.refuse(f"PyTorch has no interpolation with the coordinates {place}")
    name = "bicubic" if mode == "cubic" else LINEAR[rank]
    corners = place == "align_corners"
    if ratio is None or corners or all(isinstance(one, int) and one == round(one) for one in ratio):
        return F.interpolate(x, size=wanted, mode=name, align_corners=corners)
    return F.interpolate(x, scale_factor=ratio, mode=name, align_corners=False, recompute_scale_factor=False)


def _nearest(node: Node, x: Tensor, wanted: list[Any], place: str) -> Tensor:
    """Repeat pixels for whole factors; else copy the row that ONNX names."""
    rounding = node.get("nearest_mode", "round_prefer_floor")
    whole = all(one % size == 0 for one, size in zip(wanted, x.shape[2:], strict=True))
    if (whole and place in ("half_pixel", "pytorch_half_pixel")) or (place == "asymmetric" and rounding == "floor"):
        return F.interpolate(x, size=wanted, mode="nearest")
    for axis, size in enumerate(wanted, 2):
        x = torch.index_select(x, axis, _rows(node, x.shape[axis], size, place, rounding).to(x.device))
    return x


def _rows(node: Node, before: int, after: int, place: str, rounding: str) -> Tensor:
    """Return the row that each row of the result copies, int64 [after]."""
    step = torch.arange(after, dtype=torch.float32)
    if place == "asymmetric":
        at = step * before / after
    elif place == "align_corners":
        at = step * (before - 1) / max(after - 1, 1)
    elif place == "half_pixel" or (place == "pytorch_half_pixel" and after > 1):
        at = (step + 0.5) * before / after - 0.5
    else:
        raise node.refuse(f"PyTorch has no interpolation with the coordinates {place}")
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "floor": torch.floor,
        "ceil": torch.ceil,
        "round_prefer_floor": lambda one: torch.ceil(one - 0.5),
        "round_prefer_ceil": lambda one: torch.floor(one + 0.5),
    }
    return ways[rounding](at).to(torch.int64).clamp(0, before - 1)
