"""A network as it runs: what it takes besides its layers, and how they fare in its company.

    factor of a shape = geometric mean over its layers of  time within the network / time alone

The network is measured as it is and with every layer in parts that may be, at half of its rank: parts are small, what
runs before them is still in the caches, and with the factor of dense layers ResNet-56 at half of its time was said to
take 12% more than it did. What profiling adds to a kernel is what makes both add up: plans lie between them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ..deploy.layers import network_of
from ..deploy.targets import DeployTarget
from ..deploy.timing.sampling import until
from ..diff.profiles import Kernel, kernels
from ..progress import Track, silent
from .cost import NS, Surface
from .measure import ROUNDS
from .profiled import WARM_UP, Inputs, kernel_ms, profiled
from .shapes import Layer
from .summary import alone
from .table import Table, Whole

WITHIN = 2.0  # times, of what networks and small layers say that profiling adds


@dataclass(frozen=True)
class Halved:
    """The network in parts, and by the weight of each layer that is: its rank."""

    model: onnx.ModelProto
    ranks: Mapping[str, int]


def halves(layers: Iterable[Layer], likes: DeployTarget) -> dict[str, int]:
    """By weight: half of the rank of each layer that may become several, in whole blocks where it has some."""
    found = {}
    for layer in layers:
        if layer.rank >= 0 and layer.full > 1:
            half = layer.full // 2
            found[layer.one.weight] = half // likes.block * likes.block or half
    return found


def knows(whole: Whole, layers: Iterable[Layer]) -> bool:
    """Whether these layers have been measured in parts, too: a network may have been at first without."""
    return {str(part) for layer in layers if layer.rank >= 0 for part in layer.parts} <= set(whole.factors)


def measured(
    model: onnx.ModelProto,
    halved: Halved | None,
    layers: Sequence[Layer],
    table: Table,
    inputs: Inputs,
    seconds: float,
    track: Track = silent,
) -> Whole:
    """Time it. Its shapes, and those of the parts, are in the table."""
    models = [model] if halved is None else [model, halved.model]
    with profiled(models, table.threads, table.batch, inputs) as opened:
        for _ in track(until(seconds, ROUNDS + WARM_UP), "the whole network"):
            opened.run()
        excess, walls = opened.excess_ms(), [one.wall_ms for one in opened.sessions]
        each = [kernels(one.entries(), network_of(own)) for one, own in zip(opened.sessions, models, strict=True)]
    ran, wall = each[0], walls[0]
    if halved is not None:
        excess = _excess(excess, each, walls)
    by_weight = {layer.one.weight: layer for layer in layers}
    fared: dict[str, list[float]] = defaultdict(list)
    total = rest = 0.0
    for kernel in ran:
        ms, layer = kernel_ms(kernel.ms, excess), by_weight.get(f"{kernel.layer}.weight")
        total += ms
        if layer is None:
            rest += ms
        else:
            fared[str(layer.shape)].append(ms / alone(table, layer))
    known = frozenset(fared)
    for shape, factor in _parts(each[1], halved.ranks, by_weight, table, excess) if halved else ():
        if shape not in known:
            fared[shape].append(factor)
    factors = {name: math.exp(sum(map(math.log, each)) / len(each)) for name, each in fared.items()}
    return Whole(wall, len(ran), rest, wall - total, factors)


def _excess(excess: float, ran: Sequence[Sequence[Kernel]], walls: Sequence[float]) -> float:
    """What profiling adds to a kernel, so that both networks add up: near what the small layers say.

    Beside large kernels it is lost in their noise.
    """
    over = [sum(kernel.ms for kernel in each) - wall for each, wall in zip(ran, walls, strict=True)]
    fitted = (over[1] - over[0]) / max(len(ran[1]) - len(ran[0]), 1)
    return min(max(fitted, excess / WITHIN), excess * WITHIN)


def _parts(
    ran: Iterable[Kernel], ranks: Mapping[str, int], by_weight: Mapping[str, Layer], table: Table, excess: float
) -> Iterator[tuple[str, float]]:
    """The shape of each part that ran, and its time within the network over that alone."""
    for kernel in ran:
        stem, _, place = kernel.layer.rpartition(".")
        weight = f"{stem}.weight"
        if weight not in ranks:
            continue
        layer, part = by_weight[weight], int(place)
        widths = [len(layer.one.inputs), *[ranks[weight]] * (len(layer.parts) - 1), len(layer.one.outputs)]
        into, out = widths[part : part + 2]
        surface = Surface.of(table, layer.parts[part], (into, out), None)
        yield (
            str(layer.parts[part]),
            kernel_ms(kernel.ms, excess) * NS / float(surface(np.array([into]), np.array([out]))[0]),
        )
