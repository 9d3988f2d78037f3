"""Time a whole network, each layer within it, and the rest.

The network is measured as it is and with every layer that may be factored at half rank: parts are small, and their
inputs are still in the caches, so the factor of dense layers is too large for them. The overhead of profiling is chosen
so that both runs add up: plans lie between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx

from ..compare.profiles import Kernel, kernels
from ..cost.hardware import DeployTarget
from ..deploy.benchmark.sampling import until
from ..deploy.onnx.layers import network_of
from ..files.digest import of_json
from ..ir.digest import state_digest
from ..ir.program import Program
from ..progress import Track, silent
from .kernel_owners import Piece, owned, pieces, shared_out
from .layer_shapes import Layer
from .measure import ROUNDS
from .profiler import WARM_UP, Inputs, added_ms, profiled
from .table import Table, Whole

SECONDS = 2.0
WITHIN = 2.0  # largest ratio between the overheads that networks and small layers give


@dataclass(frozen=True)
class Halved:
    """Network in parts, and the rank of each, by weight."""

    model: onnx.ModelProto
    ranks: Mapping[str, int]


def halves(layers: Iterable[Layer], likes: DeployTarget) -> dict[str, int]:
    """Return, by weight, half the rank of each layer that may be factored, in blocks."""
    found = {}
    for layer in layers:
        if layer.rank is not None and layer.full > 1:
            half = layer.full // 2
            found[layer.one.weight] = half // likes.block * likes.block or half
    return found


def digest_of(program: Program) -> str:
    """Compute the sha256 of a network's graph, weights and inputs. The batch counts only if it is fixed."""
    first = 1 if program.dynamic_batch else 0
    inputs = [(list(one.shape[first:]), str(one.dtype)) for one in program.example_inputs]
    return of_json([str(program.module.graph), state_digest(program.module), inputs])


def knows(whole: Whole, layers: Iterable[Layer]) -> bool:
    """Return whether these layers were measured in parts, too."""
    return {part for layer in layers if layer.rank is not None for part in layer.parts} <= set(whole.within)


def measured(
    model: onnx.ModelProto,
    halved: Halved | None,
    layers: Sequence[Layer],
    table: Table,
    inputs: Inputs,
    track: Track = silent,
) -> Whole:
    """Time the network with the batch and threads of the table."""
    models = [model] if halved is None else [model, halved.model]
    networks = [network_of(each) for each in models]
    with profiled(models, table.threads, table.batch, inputs) as opened:
        for _ in track(until(SECONDS, ROUNDS + WARM_UP), "the whole network"):
            opened.run()
        excess = opened.excess_ms()
        (ran, wall), *split = (
            (kernels(one.entries(), network), one.wall_ms)
            for one, network in zip(opened.sessions, networks, strict=True)
        )
    if split:  # large kernels make this estimate noisy, so it is held near that of the small layers
        excess = min(max(added_ms(split[0], (ran, wall)), excess / WITHIN), excess * WITHIN)
    found = as_run(wall, ran, owned(networks[0], pieces(layers, {})), excess)
    if halved is None:
        return found
    parts = owned(networks[1], pieces(layers, halved.ranks))
    return found.with_parts_of(as_run(split[0][1], split[0][0], parts, excess))


def as_run(wall_ms: float, ran: Sequence[Kernel], owners: Mapping[str, Piece], excess_ms: float) -> Whole:
    """Split the kernel times of a run into layers and rest."""
    within, rest = shared_out(ran, owners, excess_ms)
    return Whole(wall_ms, len(ran), rest, within)
