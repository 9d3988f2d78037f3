"""A network as it runs: what it takes besides its layers, and how they fare in its company.

    factor of a shape = geometric mean over its layers of  time within the network / time alone

The network is measured as it is and with every layer in parts that may be, at half of its rank: parts are small, what
runs before them is still in the caches, and with the factor of dense layers ResNet-56 at half of its time was said to
take 12% more than it did. What profiling adds to a kernel is what makes both add up: plans lie between them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

import numpy as np
import onnx

from ..deploy.layers import network_of
from ..deploy.targets import DeployTarget
from ..deploy.timing.sampling import until
from ..diff.profiles import Kernel, kernels
from ..progress import Track, silent
from .cost import NS, Surface
from .measure import ROUNDS
from .profiled import WARM_UP, Inputs, added_ms, kernel_ms, profiled
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
        excess = opened.excess_ms()
        (ran, wall), *split = (
            (kernels(one.entries(), network_of(each)), one.wall_ms)
            for one, each in zip(opened.sessions, models, strict=True)
        )
    if split:  # beside large kernels what they say is lost in noise, so it is held near what the small layers say
        excess = min(max(added_ms(split[0], (ran, wall)), excess / WITHIN), excess * WITHIN)
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
    for shape, factor in _parts(split[0][0], halved.ranks, by_weight, table, excess) if halved else ():
        if shape not in known:
            fared[shape].append(factor)
    factors = {name: geometric_mean(each) for name, each in fared.items()}
    return Whole(wall, len(ran), rest, wall - total, factors)


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
        (own,) = surface(np.array([into]), np.array([out]))
        yield str(layer.parts[part]), kernel_ms(kernel.ms, excess) * NS / float(own)
