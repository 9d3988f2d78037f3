"""Meet a target in milliseconds: allocate by the table, measure, correct the table, repeat.

    correction <- estimate from all races so far (`tries`)        until a network is near the target

The measured network has the planned widths and ranks and its old weights: values change no time, so nothing is fitted
before the widths are settled. The table knows the engine's steps, so `--align auto` adds only `blocks`; explicit widths
are kept to if the budget allows any. Dense and narrow networks run in turn on calibration images and are compared by
the median of ratios. With a table from another machine nothing is measured, and the report says so.
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
from .table import NS, Table
from .table_cache import keep
from .tries import Tries, Try

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..deploy.benchmark.statistics import Speedup

Met = tuple[Allocation, Counts, dict[str, Any]]
LAYER_SECONDS, RACE_SECONDS = 1.0, 1.5
ATTEMPTS = 4  # per chunk of shapes: other processes may measure it at other widths


def within(problem: Allocation, method: Allocator, program: Program, context: Context) -> Met:
    """Return the corrected problem, the counts that meet its latency target, and report entries.

    Raises BudgetError if the target is out of reach for the leanest network, as measured or as another machine's table
    has it; BackendError if such a table lacks layers of this network.
    """
    table, layers, dense = ready(program, context.on, context)
    cost = latency_of(program, layers, table, table.wholes.get(whole_network.digest_of(program)))
    wanted = next(one for one in problem.target.each if one.kind == "latency")
    dense_ns = _dense_ns(program, layers, table)
    if (before := unhoisted(program)) is not program:  # the target is a share of this network's time
        table, layers_before, dense = ready(before, context.on, context)
        dense_ns = _dense_ns(before, layers_before, table)
    whole_blocks = blocks.at_least_one(problem.channels, layers, cost, table.likes)
    search = _Search(problem, whole_blocks, method, wanted, dense_ns, context)
    search = search.settled(cost)
    facts: dict[str, Any] = {"on": table.name, "target": wanted.own, "dense_ms": search.dense_ns / NS}
    if dense is None:
        counts = search.spent(cost)
        facts |= {"predicted_ms": cost.total(counts) / NS, "rounds": []}
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
    """Return the dense network's time in ns, as measured or summed over layers."""
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
    told: dict[bytes, dict[str, Any]] = field(default_factory=dict)  # alignment report, by counts

    def timed(self, cost: Latency) -> Allocation:
        """Return the problem with latency by `cost`."""
        return replace(self.problem, latency=LatencyQuantity(cost, self.dense_ns))

    def settled(self, cost: Latency) -> _Search:
        """Fix the allocator and the initial weights of all rounds.

        Unchanged where no counts are within the budget.
        """
        try:
            problem = one_limit(self.timed(cost))
            return replace(
                self, method=self.method.settled(problem), problem=replace(self.problem, start=problem.weights)
            )
        except BudgetError:
            return self

    def spent(self, cost: Latency) -> Counts:
        """Return the counts within the budget by this table. Raises BudgetError if none fit."""
        counts, told = aligned(self.timed(cost), self.method, self.context.constraints, self.blocks)
        self.told[counts.tobytes()] = told
        return counts

    def next(self, cost: Latency, tries: Tries) -> Counts:
        """Return the next counts to measure, possibly the former ones.

        If the table has none within the budget, the leanest are measured first; raises BudgetError if they are too
        slow.
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
        plain = cost.total(counts) / cost.correction
        return Try(cost.correction, counts, plain, true, ms, share, speedup.error)


def ready(program: Program, on: On | None, context: Context) -> tuple[Table, list[Layer], ModelProto | None]:
    """Return the complete table, the layers, and the dense network if it is measurable here.

    Raises BackendError if a table from another machine lacks layers, SpecError if the batches differ.
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
    """Measure missing layers and the network; return the table and the dense network.

    The table is saved every few shapes, so that a stopped run resumes there. Shapes that another process has measured
    meanwhile are not measured again. A user's table is extended in memory only.
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
    own = [layer for layer in layers if layer.rank is not None or not layer.parts]
    if digest not in table.wholes or not whole_network.knows(table.wholes[digest], own):
        inputs = noise_like(program.example_inputs, table.batch)
        halved = _halved(program, whole_network.halves(own, table.likes))
        found = whole_network.measured(model, halved, own, table, inputs, track)
        known = table.wholes.get(digest)
        table = keep(table.with_whole(digest, found if known is None else found.with_parts_of(known)))
    return table, model


def _require_batch(table: Table, program: Program) -> None:
    """Raise SpecError if the network's fixed batch is not the table's."""
    if program.only_batch not in (None, table.batch):
        raise SpecError(
            f"the network takes {program.only_batch} samples at once and no other number, and the table is of batch"
            f" {table.batch}: ask for ort-cpu{{batch={program.only_batch}}}"
        )


def _halved(program: Program, ranks: Mapping[str, int]) -> whole_network.Halved | None:
    """Return the network with these ranks, by weight; None without ranks."""
    if not ranks:
        return None
    channels = program.fact(Channels)
    weights = {one.node: one.weight for one in channels.contractions}
    keep = {
        one.space: tuple(range(ranks[weights[one.node]])) for one in channels.factorings if weights[one.node] in ranks
    }
    return whole_network.Halved(_narrow(program, Plan(channels, keep)), ranks)


def _narrow(program: Program, plan: Plan) -> ModelProto:
    return _exported(Pipeline.parse("slice,decompose").run(program.knowing(plan), Context()))


def _exported(program: Program) -> ModelProto:
    from ..deploy.onnx.export import export_onnx

    here = program.on(CPU)
    return export_onnx(here.module, here.example_inputs, opset=18, dynamic_batch=program.dynamic_batch)


@dataclass(frozen=True)
class _Race:
    """Race of the dense network against narrow ones, each exported once."""

    problem: Allocation
    program: Program
    context: Context
    table: Table
    dense: ModelProto
    narrow: dict[bytes, ModelProto] = field(default_factory=dict)

    def __call__(self, counts: Counts) -> tuple[Speedup, float]:
        """Return the speedup over the dense network, and the narrow one's median in ms."""
        from ..deploy.benchmark.contestant import Entry
        from ..deploy.benchmark.sampling import WALL
        from ..deploy.benchmark.sweep import Sweep
        from ..deploy.benchmark.sweep import measure as race

        key, table = counts.tobytes(), self.table
        if key not in self.narrow:
            self.narrow[key] = _narrow(self.program, Plan(self.problem.channels, self.problem.keep(counts)))
        inputs = _samples(self.program, self.context, table.batch)
        pair = Entry("dense", model=self.dense), Entry("narrow", model=self.narrow[key])
        sweep = Sweep((table.batch,), (table.threads,), RACE_SECONDS)
        (found,) = race(pair, sweep, inputs=inputs, track=self.context.track)
        return found.speedups[0], float(np.median(found.samples[1][WALL]))


def _samples(program: Program, context: Context, batch: int) -> tuple[Tensor, ...]:
    """Return calibration images, or noise if there are none."""
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
