"""Find the layer that each kernel computes.

An ONNX node has the name of the module that owns its weight, but a linear layer over more than two dimensions is a
`matmul_3` with its weight transposed, and its name is on the addition of the bias. Such nodes are matched by the size
of their weight, in the order of the graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ..compare.profiles import Kernel
from ..deploy.onnx.layers import Network
from .layer_shapes import Layer, LayerShape, Sizes
from .profiler import kernel_ms
from .table import Within

Work = tuple[int, Sizes]  # entries of a weight, and its kernel


@dataclass(frozen=True)
class Piece:
    """Layer of a network, or one part of a factored layer."""

    name: str
    shape: LayerShape
    widths: tuple[int, int]  # channels read and made, as the grid of its shape has them
    work: Work


def pieces(layers: Iterable[Layer], ranks: Mapping[str, int]) -> list[Piece]:
    """List the layers in order, in parts if `ranks` has their weight."""
    found = []
    for layer in layers:
        name, rank = layer.one.weight.removesuffix(".weight"), ranks.get(layer.one.weight)
        into, out = len(layer.one.inputs), len(layer.one.outputs)
        if rank is None:
            widths = (1 if layer.shape.group else into, out)
            found.append(
                Piece(name, layer.shape, widths, (into * out // layer.one.groups * layer.one.taps, layer.shape.kernel))
            )
            continue
        ends = [into, *[rank] * (len(layer.parts) - 1), out]
        for place, part in enumerate(layer.parts):
            widths = ends[place], ends[place + 1]
            found.append(Piece(f"{name}.{place}", part, widths, (prod(widths) * prod(part.kernel), part.kernel)))
    return found


def owned(network: Network, given: Sequence[Piece]) -> dict[str, Piece]:
    """Match the layers of an ONNX network with pieces of equal work."""
    working = {one.name: (prod(one.weight), one.kernel) for one in network.layers if one.weight and one.macs}
    found: dict[str, Piece] = {}
    free = list(given)
    for rule in (_called, _next):
        for name, work in working.items():
            piece = None if name in found else rule(name, work, free)
            if piece is not None:
                found[name] = piece
                free.remove(piece)
    return found


def _called(name: str, work: Work, free: Iterable[Piece]) -> Piece | None:
    """Find the piece of that name; `conv_1` is a second use of `conv`."""
    alike = [one for one in free if one.work == work]
    return next((one for stem in (name, name.rpartition("_")[0]) for one in alike if one.name == stem), None)


def _next(name: str, work: Work, free: Iterable[Piece]) -> Piece | None:
    """Find the first piece of that work."""
    return next((one for one in free if one.work == work), None)


def shared_out(
    ran: Iterable[Kernel], owners: Mapping[str, Piece], excess_ms: float
) -> tuple[dict[LayerShape, Within], float]:
    """Sum kernel times in ms by layer shape; return also the sum of other kernels."""
    ms: dict[LayerShape, float] = defaultdict(float)
    widths: dict[LayerShape, list[tuple[int, int]]] = defaultdict(list)
    rest = 0.0
    for kernel in ran:
        taken, piece = kernel_ms(kernel.ms, excess_ms), owners.get(kernel.layer)
        if piece is None:
            rest += taken
            continue
        ms[piece.shape] += taken
        widths[piece.shape].append(piece.widths)
    return {shape: Within(ms[shape], tuple(widths[shape])) for shape in ms}, rest
