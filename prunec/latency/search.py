"""Meet a target in milliseconds: allocate in the table's, measure the whole network, correct the table, repeat.

    correction <- what the races so far say together (`tries`)        until a network is near what is wanted

The network that is measured has the planned widths and ranks and the old weights: what they are changes no time, so
nothing needs to be fitted before the widths are settled. The table knows the engine's steps, so `--align auto` adds
to it no more than `blocks`; widths asked for by name or number are kept to while the budget has such. Dense and narrow
networks run in turn on calibration images; what is compared is the median of the ratios. With a table from another
machine nothing is measured, and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..allocation.aligned_counts import aligned
from ..allocation.interface import Allocator
from ..allocation.multi_budget import one_limit
from ..allocation.problem import Allocation
from ..channels.spaces import Channels
from ..cost.budget import leanest
from ..cost.terms import Counts
from ..data.noise import noise_like
from ..device import CPU
from ..errors import BackendError, BudgetError, SpecError
from ..ir.calling import samples_of
from ..ir.program import Program
from ..ir.unhoisted import unhoisted
from ..pipeline.context import Context
from ..pipeline.pipeline import Pipeline
from ..progress import Track, silent
from ..request.engine import On
from ..request.target import Target
from ..surgery.plan import Plan
from . import blocks, engine, measure, whole_network
from .cost import Latency, LatencyQuantity, latency_of
from .layer_shapes import Layer, LayerShape, layers_of
from .surface import NS
from .table import Table
from .table_cache import keep
from .tries import Tries, Try

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..deploy.benchmark.statistics import Speedup

Met = tuple[Allocation, Counts, dict[str, Any]]
LAYER_SECONDS, WHOLE_SECONDS, RACE_SECONDS = 1.0, 2.0, 1.5
ATTEMPTS = 4  # at a few shapes, which other processes may be measuring at other widths


def within(problem: Allocation, method: Allocator, program: Program, context: Context) -> Met:
    """The counts that meet a target with latency in it, the problem with the corrected table, and for the report how.

    Raises BudgetError where it is out of reach, as measured with what costs least, or as a table from another
    machine has it; BackendError where such a table lacks layers of this network.
    """
    table, layers, dense = ready(program, context.on, context)
    cost = latency_of(program, layers, table, table.wholes.get(whole_network.digest_of(program)))
    wanted = next(one for one in problem.target.each if one.kind == "latency")
    dense_ns = _dense_ns(program, layers, table)
    if (before := unhoisted(program)) is not program:  # the target asks for a share of its time
        table, layers_before, dense = ready(before, context.on, context)
        dense_ns = _dense_ns(before, layers_before, table)
    whole_blocks = blocks.at_least_one(problem.channels, layers, cost, table.likes)
    search = _Search(problem, whole_blocks, method, wanted, dense_ns, context)
    search = replace(search, method=search.settled(cost))
    facts: dict[str, Any] = {"on": table.name, "target": wanted.own, "dense_ms": search.dense_ns / NS}
    if dense is None:
        counts = search.spent(cost)
        facts |= {"predicted_ms": cost.exact.total(counts) / NS, "rounds": []}
        return search.timed(cost), counts, {"latency": facts} | search.told.get(counts.tobytes(), {})
    race, tries = _Race(problem, program, context, table, dense), Tries(wanted.allowed(search.dense_ns))
    while not tries.over:  # ends: over after ROUNDS at most
        found = search.next(cost, tries)
        tries.each.append(search.judged(cost, found, *race(found)))
        cost = cost.corrected(tries.correction)
    best = tries.best
    told = {"latency": facts | tries.report()} | search.told.get(best.counts.tobytes(), {})
    return search.timed(cost.corrected(best.correction)), best.counts, told


def _dense_ns(program: Program, layers: Sequence[Layer], table: Table) -> int:
    """The time of a network with all its channels: as measured, or the sum of its layers."""
    known = table.wholes.get(whole_network.digest_of(program))
    return latency_of(program, layers, table, known).total() if known is None else round(known.ms * NS)


@dataclass(frozen=True)
class _Search:
    """Data that all rounds of a latency search share."""

    problem: Allocation
    blocks: Channels  # with a block at least where the engine reads blocks
    method: Allocator
    wanted: Target
    dense_ns: int
    context: Context
    told: dict[bytes, dict[str, Any]] = field(default_factory=dict)  # by counts: how they were aligned

    def timed(self, cost: Latency) -> Allocation:
        """The problem in this table's time."""
        return replace(self.problem, latency=LatencyQuantity(cost, self.dense_ns))

    def settled(self, cost: Latency) -> Allocator:
        """The allocator of all rounds; the method itself where this table has no counts within the budget."""
        try:
            return self.method.settled(one_limit(self.timed(cost)))
        except BudgetError:
            return self.method

    def spent(self, cost: Latency) -> Counts:
        """The counts within the budget as this table has it. Raises BudgetError where there are none."""
        counts, told = aligned(self.timed(cost), self.method, self.context.constraints, self.blocks)
        self.told[counts.tobytes()] = told
        return counts

    def next(self, cost: Latency, tries: Tries) -> Counts:
        """The next counts to measure, which may be those of before.

        Where the table has none within the budget the leanest are measured before that is believed: raises BudgetError
        if they are too slow.
        """
        try:
            return self.spent(cost)
        except BudgetError:
            found = leanest(self.problem.channels, cost)
            if tries.known_to_be_slow(found):
                raise
            return found

    def judged(self, cost: Latency, counts: Counts, speedup: Speedup, ms: float) -> Try:
        """Return the measured time of the counts beside the predicted one."""
        share = 1 / speedup.ratio
        true = share * self.dense_ns if self.wanted.unit is None else ms * NS
        plain = cost.exact.total(counts) / cost.correction
        return Try(cost.correction, counts, plain, true, ms, share, speedup.error)


def ready(program: Program, on: On | None, context: Context) -> tuple[Table, list[Layer], ModelProto | None]:
    """The table with all that this network needs, its layers, and the dense network where it can be measured here.

    Raises BackendError where a table from another machine lacks layers of it, SpecError where the batches differ.
    """
    table, layers = engine.table_of(on or On()), layers_of(program)
    if engine.is_here(table):
        table, model = filled(table, program, layers, context.track)
        return table, layers, model
    _require_batch(table, program)
    if lacking := measure.missing(table, measure.needs_of(layers)):
        raise BackendError(_unknown(table, lacking))
    return table, layers, None


def filled(table: Table, program: Program, layers: Sequence[Layer], track: Track = silent) -> tuple[Table, ModelProto]:
    """The table of this machine with all layers and the network itself, kept for the next run; and the dense network.

    Every few shapes the table is written, so that a run that was stopped goes on from there. What another process has
    measured by then is not measured again. To a table of the user's all is added in memory alone.
    """
    _require_batch(table, program)
    needs, digest, model = measure.needs_of(layers), whole_network.digest_of(program), _exported(program)
    for _ in range(ATTEMPTS * (1 + sum(1 for _ in measure.chunks(needs)))):
        chunk = next(measure.chunks(measure.missing(table, needs)), None)
        if chunk is None:
            break
        what = f"latency of {', '.join(map(str, list(chunk)[:2]))} …"
        table = keep(table.with_grids(measure.grids(chunk, table, LAYER_SECONDS, track=track, what=what)))
    else:
        raise BackendError("other processes measure the same layers at other widths all the time: run again")
    own = [layer for layer in layers if layer.rank >= 0 or not layer.parts]
    if digest not in table.wholes or not whole_network.knows(table.wholes[digest], own):
        inputs = noise_like(program.example_inputs, table.batch)
        halved = _halved(program, whole_network.halves(own, table.likes))
        found = whole_network.measured(model, halved, own, table, inputs, WHOLE_SECONDS, track)
        known = table.wholes.get(digest)
        table = keep(table.with_whole(digest, found if known is None else found.with_parts_of(known)))
    return table, model


def _require_batch(table: Table, program: Program) -> None:
    """Raise SpecError where the network fixes another batch than the table has."""
    if program.only_batch not in (None, table.batch):
        raise SpecError(
            f"the network takes {program.only_batch} samples at once and no other number, and the table is of batch"
            f" {table.batch}: ask for ort-cpu{{batch={program.only_batch}}}"
        )


def _halved(program: Program, ranks: Mapping[str, int]) -> whole_network.Halved | None:
    """The network with these ranks, by weight, or None where there are none."""
    if not ranks:
        return None
    channels = program.fact(Channels)
    weights = {one.node: one.weight for one in channels.contractions}
    keep = {
        one.space: tuple(range(ranks[weights[one.node]])) for one in channels.factorings if weights[one.node] in ranks
    }
    return whole_network.Halved(_narrow(program, Plan(channels, keep)), ranks)


def narrowed(program: Program, problem: Allocation, counts: Counts) -> ModelProto:
    """The network with these widths and ranks, and nothing fitted."""
    return _narrow(program, Plan(problem.channels, problem.keep(counts)))


def _narrow(program: Program, plan: Plan) -> ModelProto:
    return _exported(Pipeline.parse("slice,decompose").run(program.knowing(plan), Context()))


def _exported(program: Program) -> ModelProto:
    from ..deploy.onnx.export import export_onnx

    here = program.on(CPU)
    return export_onnx(here.module, here.example_inputs, opset=18, dynamic_batch=program.dynamic_batch)


@dataclass(frozen=True)
class _Race:
    """The dense network against narrow ones, each exported once."""

    problem: Allocation
    program: Program
    context: Context
    table: Table
    dense: ModelProto
    narrow: dict[bytes, ModelProto] = field(default_factory=dict)

    def __call__(self, counts: Counts) -> tuple[Speedup, float]:
        """How many times faster than the dense network, and its own median in ms: as reports measure them."""
        from ..deploy.benchmark.comparison import compare

        key, table = counts.tobytes(), self.table
        if key not in self.narrow:
            self.narrow[key] = narrowed(self.program, self.problem, counts)
        inputs = _samples(self.program, self.context, table.batch)
        how: Any = {"batch": table.batch, "threads": table.threads, "seconds": RACE_SECONDS}
        found = compare(self.dense, self.narrow[key], inputs=inputs, track=self.context.track, **how)
        return found.speedup, float(np.median(found.b_ms))


def _samples(program: Program, context: Context, batch: int) -> tuple[Tensor, ...]:
    """Calibration images, or noise where there are none."""
    if context.calibration is None:
        return noise_like(program.example_inputs, batch)
    return tuple(samples_of(one, batch) for one in context.calibration.inputs)


def _unknown(table: Table, lacking: measure.Needs) -> str:
    shapes: list[LayerShape] = list(lacking)
    more = f" and {len(shapes) - 1} more" if len(shapes) > 1 else ""
    return (
        f"the latency table of {table.name} does not know {shapes[0]}{more}: on that machine run prunec profile on this"
        " network, or compress with --decomposer none if it was profiled so"
    )
