"""Import what makes and reads shapes, constants and types.

Sources: https://onnx.ai/onnx/operators/onnx__Shape.html, and the pages of Size, Cast, Constant, ConstantOfShape, Range,
EyeLike, Identity and Dropout.
"""

from __future__ import annotations

import math
from typing import Any

import onnx
import torch
from torch import Tensor

from ..node import WIDEST_NUMBERS, Node, is_number, numbers_of, operator, tensor_of
from .arithmetic import of_numbers

HALVES = (torch.float16, torch.bfloat16)  # computed in float32, as ONNX Runtime does on a CPU


def torch_type(node: Node, number: int) -> torch.dtype:
    """Convert an ONNX element type; half precision becomes float32."""
    name = onnx.helper.tensor_dtype_to_np_dtype(number).name
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise node.refuse(f"PyTorch has no element type {name}")
    return torch.float32 if found in HALVES else found


@operator("Shape")
def shape(node: Node, x: Any) -> list[Any]:
    """Import `Shape` as a list of sizes."""
    sizes = [len(x)] if isinstance(x, list) else [] if is_number(x) else list(x.shape)
    return sizes[node.get("start", 0) : node.get("end")]


@operator("Size")
def size(node: Node, x: Any) -> Any:
    """Import `Size`."""
    return math.prod(shape(node, x))


@operator("Identity", "Dropout")
def identity(node: Node, x: Any, *unread: Any) -> Any:
    """Import `Identity`, and `Dropout` in inference. Raises CaptureError for one that trains or returns its mask."""
    if len(node.outputs) > 1 and node.outputs[1]:
        raise node.refuse("its mask is read")
    return x


@operator("Cast")
def cast(node: Node, x: Any) -> Any:
    """Import `Cast`; sizes stay numbers."""
    kind = torch_type(node, node.get("to"))
    if isinstance(x, Tensor):
        return x if x.dtype == kind else x.to(kind)
    if kind.is_floating_point:
        return of_numbers(lambda one: _real(node, one), x)
    if kind == torch.bool:
        return of_numbers(bool, x)
    return of_numbers(lambda one: int(one) if isinstance(one, (float, bool)) else one, x)


def _real(node: Node, value: Any) -> float:
    if not isinstance(value, (int, float)):
        raise node.refuse("it converts a size that varies with the batch to a floating-point number")
    return float(value)


@operator("CastLike")
def cast_like(node: Node, x: Any, like: Any) -> Any:
    """Import `CastLike`."""
    return tensor_of(x, like).to(like.dtype) if isinstance(like, Tensor) else x


@operator("ConstantOfShape", numbers=(0,))
def constant_of_shape(node: Node, sizes: Any) -> Any:
    """Import `ConstantOfShape`: a short list of integers stays numbers."""
    value = node.get("value")
    kind = torch.float32 if value is None else torch_type(node, onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
    fill = 0.0 if value is None else value.reshape(-1)[0].item()
    wanted = numbers_of(node, sizes)
    if kind == torch.int64 and len(wanted) == 1 and isinstance(wanted[0], int) and wanted[0] <= WIDEST_NUMBERS:
        return [fill] * wanted[0]
    return torch.full(wanted, fill, dtype=kind)


@operator("Range", numbers=(0, 1, 2))
def range_of(node: Node, start: Any, end: Any, step: Any) -> Any:
    """Import `Range`: short ones of fixed integers stay numbers."""
    bounds = [numbers_of(node, one)[0] for one in (start, end, step)]
    if all(isinstance(one, int) for one in bounds) and len(range(*bounds)) <= WIDEST_NUMBERS:
        return list(range(*bounds))
    return torch.arange(*bounds)
