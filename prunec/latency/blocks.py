"""Widths that no layer measured alone tells the truth about: fewer channels than a block.

ONNX Runtime on x86 keeps values in blocks of channels. A convolution that reads fewer than a block reads the plain
layout: alone it is given that, within a network the value is copied there first, by a kernel that no table has
(`ReorderOutput`). ResNet-56 with AVX-512, where the table chose 4 to 15 of 16 channels or ranks: 16 such kernels took
an eighth of the time, and the layers 1.5 times what the table said. With a block at least: a tenth less time at the
same error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..channels.spaces import Channels
from ..cost.hardware import DeployTarget
from .cost import Latency
from .layer_shapes import LINEAR, Layer


def at_least_one(channels: Channels, layers: Sequence[Layer], cost: Latency, likes: DeployTarget) -> Channels:
    """The spaces with as many coordinates as are a block, or all, where convolutions read them; ranks among them."""
    if not likes.small_inputs:
        return channels
    least: dict[str, int] = {}
    names = [space.name for space in channels.prunable]
    for layer, rows in zip(layers, cost.in_rows, strict=True):
        if layer.shape.op == LINEAR:
            continue
        for place in rows.nonzero()[0]:
            least[names[place]] = -(-likes.block // int(rows[place]))
        if layer.rank >= 0:
            least[names[layer.rank]] = likes.block
    spaces = (
        replace(space, least=max(space.least, min(least[space.name], space.size))) if space.name in least else space
        for space in channels.spaces
    )
    return replace(channels, spaces=tuple(spaces))
