"""Import what moves data.

Sources: https://onnx.ai/onnx/operators/onnx__Reshape.html, and the pages of Flatten, Transpose, Squeeze, Unsqueeze,
Expand, Concat, Split, Slice, Tile, Pad, DepthToSpace and SpaceToDepth.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..node import Node, is_number, numbers_of, operator, tensor_of


@operator("Reshape", numbers=(1,))
def reshape(node: Node, x: Any, shape: Any) -> Any:
    """Import `Reshape`, in which 0 copies a size unless `allowzero`."""
    wanted = numbers_of(node, shape)
    if is_number(x):
        if len(wanted) == 0:
            return x[0] if isinstance(x, list) else x
        if len(wanted) == 1:
            return x if isinstance(x, list) else [x]
        x = tensor_of(x)
    if not node.get("allowzero", 0):
        wanted = [x.shape[place] if isinstance(one, int) and one == 0 else one for place, one in enumerate(wanted)]
    return torch.reshape(x, wanted)


@operator("Flatten")
def flatten(node: Node, x: Tensor) -> Tensor:
    """Import `Flatten`, which gives a matrix."""
    axis = node.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    if axis == 1 and x.dim() > 1:
        return torch.flatten(x, 1)
    return torch.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@operator("Transpose")
def transpose(node: Node, x: Any) -> Any:
    """Import `Transpose`; without `perm` it reverses the axes."""
    if is_number(x):
        return x
    return torch.permute(x, node.get("perm") or list(reversed(range(x.dim()))))


@operator("Squeeze", numbers=(1,))
def squeeze(node: Node, x: Any, axes: Any = None) -> Any:
    """Import `Squeeze`."""
    if is_number(x):
        return x[0] if isinstance(x, list) else x
    given = node.get("axes") if axes is None else numbers_of(node, axes)
    if given is None:
        given = [axis for axis, size in enumerate(x.shape) if isinstance(size, int) and size == 1]
    return torch.squeeze(x, tuple(given))


@operator("Unsqueeze", numbers=(1,))
def unsqueeze(node: Node, x: Any, axes: Any = None) -> Any:
    """Import `Unsqueeze`, whose axes count in the result."""
    given = list(node.get("axes") if axes is None else numbers_of(node, axes))
    if is_number(x):
        if len(given) == 1 and not isinstance(x, list):
            return [x]
        x = tensor_of(x)
    rank = x.dim() + len(given)
    for axis in sorted(one % rank for one in given):
        x = torch.unsqueeze(x, axis)
    return x


@operator("Expand", numbers=(1,))
def expand(node: Node, x: Any, shape: Any) -> Tensor:
    """Import `Expand`, which broadcasts both ways."""
    x, wanted = tensor_of(x), numbers_of(node, shape)
    sizes = [1] * (len(wanted) - x.dim()) + list(x.shape)
    wanted = [1] * (len(sizes) - len(wanted)) + wanted
    found: Tensor = x.expand(
        [size if isinstance(one, int) and one == 1 else one for one, size in zip(wanted, sizes, strict=True)]
    )
    return found


@operator("Concat")
def concat(node: Node, *values: Any) -> Any:
    """Import `Concat`, of tensors or of lists of sizes."""
    if all(isinstance(one, list) for one in values):
        return [entry for one in values for entry in one]
    like = next(one for one in values if isinstance(one, Tensor))
    return torch.cat([tensor_of(one, like) for one in values], dim=node.get("axis"))


@operator("Split", numbers=(1,))
def split(node: Node, x: Any, sizes: Any = None) -> tuple[Any, ...]:
    """Import `Split`; without sizes, into equal parts, of which the last may be smaller."""
    given = node.get("split") if sizes is None else numbers_of(node, sizes)
    axis, count = node.get("axis", 0), len(node.outputs)
    whole = len(x) if is_number(x) else x.shape[axis]
    if given is None:
        part = -(-whole // count)
        given = [*[part] * (count - 1), whole - part * (count - 1)]
    if is_number(x):
        starts = [sum(given[:place]) for place in range(len(given))]
        return tuple(x[start : start + length] for start, length in zip(starts, given, strict=True))
    return torch.split(x, list(given), axis)


@operator("Slice", numbers=(1, 2, 3, 4))
def slice_of(node: Node, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    """Import `Slice`; a negative step gathers."""
    begins, stops = (
        numbers_of(node, node.get(name) if one is None else one) for name, one in (("starts", starts), ("ends", ends))
    )
    axes = node.get("axes") if axes is None else axes
    places = list(range(len(begins))) if axes is None else numbers_of(node, axes)
    widths = [1] * len(begins) if steps is None else numbers_of(node, steps)
    for begin, stop, axis, step in zip(begins, stops, places, widths, strict=True):
        x = _sliced(x, axis, begin, stop, step)
    return x


def _sliced(x: Any, axis: int, begin: Any, stop: Any, step: int) -> Any:
    if is_number(x):
        return x[begin : None if step < 0 and stop < -len(x) else stop : step]
    axis = axis % x.dim()
    if step > 0:
        return x[(slice(None),) * axis + (slice(begin, stop, step),)]
    chosen = range(x.shape[axis])[slice(begin, None if stop < -x.shape[axis] else stop, step)]
    return torch.index_select(x, axis, torch.tensor(list(chosen), device=x.device))


@operator("Tile", numbers=(1,))
def tile(node: Node, x: Any, repeats: Any) -> Tensor:
    """Import `Tile`."""
    return tensor_of(x).repeat(numbers_of(node, repeats))


@operator("Pad", numbers=(1, 2, 3))
def pad(node: Node, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    """Import `Pad`: constant, reflect, edge or wrap; negative pads crop."""
    given = numbers_of(node, node.get("pads") if pads is None else pads)
    places = list(range(x.dim())) if axes is None else [one % x.dim() for one in numbers_of(node, axes)]
    half = len(given) // 2
    begins, ends = dict(zip(places, given[:half], strict=True)), dict(zip(places, given[half:], strict=True))
    mode = node.get("mode", "constant")
    fill = node.get("value", 0.0) if value is None else numbers_of(node, value)[0]
    padded = [axis for axis in range(x.dim()) if begins.get(axis) or ends.get(axis)]
    if not padded:
        return x
    first = padded[0] if mode == "constant" else min(padded[0], 2)
    pairs = [one for axis in reversed(range(first, x.dim())) for one in (begins.get(axis, 0), ends.get(axis, 0))]
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode == "constant":
        return F.pad(x, pairs, value=float(fill))
    if padded[0] < 2 or min(pairs) < 0:
        raise node.refuse(f"its mode is {mode}, and it pads the batch or channels, or crops")
    return F.pad(x, pairs, mode=names[mode])


@operator("DepthToSpace")
def depth_to_space(node: Node, x: Tensor) -> Tensor:
    """Import `DepthToSpace`: CRD is PyTorch's pixel shuffle."""
    block = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    count, channels, height, width = x.shape
    parts = x.reshape(count, block, block, channels // (block * block), height, width)
    parts = parts.permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(count, channels // (block * block), height * block, width * block)


@operator("SpaceToDepth")
def space_to_depth(node: Node, x: Tensor) -> Tensor:
    """Import `SpaceToDepth`."""
    block = node.get("blocksize")
    count, channels, height, width = x.shape
    parts = x.reshape(count, channels, height // block, block, width // block, block)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(count, -1, height // block, width // block)
