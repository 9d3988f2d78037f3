"""Keep at least one block of channels where convolutions read them.

ONNX Runtime on x86 keeps values in blocks of channels. A convolution that reads less than a block needs the plain
layout: alone it gets that for free, in a network a `ReorderOutput` kernel, in no table, copies the value first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..channels.spaces import Channels
from ..cost.hardware import DeployTarget
from .cost import Latency
from .layer_shapes import LINEAR, Layer


def at_least_one(channels: Channels, layers: Sequence[Layer], cost: Latency, likes: DeployTarget) -> Channels:
    """Raise the least width of spaces that convolutions read to one block, ranks included."""
    if not likes.small_inputs:
        return channels
    least: dict[str, int] = {}
    names = [space.name for space in channels.prunable]
    for layer, rows in zip(layers, cost.in_rows, strict=True):
        if layer.shape.op == LINEAR:
            continue
        for place in rows.nonzero()[0]:
            least[names[place]] = -(-likes.block // int(rows[place]))
        if layer.rank is not None:
            least[names[layer.rank]] = likes.block
    spaces = (
        replace(space, least=max(space.least, min(least[space.name], space.size))) if space.name in least else space
        for space in channels.spaces
    )
    return replace(channels, spaces=tuple(spaces))
