"""Meet a target in milliseconds: allocate in the table's, measure the whole network, correct the table, repeat.

    correction <- correction · measured / wanted        until measured is within `NEAR` of what is wanted

The network that is measured has the planned widths and ranks and the old weights: what they are changes no time, so
nothing needs to be fitted before the widths are settled. Dense and narrow networks run in turn; what is compared is the
median of the ratios, and one that is near is raced again, for the first of several to be near may be so by chance: the
mean of both counts. With a table from another machine nothing is measured, and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..allocation import Allocation
from ..budget import leanest
from ..device import CPU
from ..errors import BackendError, BudgetError
from ..pipeline import Pipeline
from ..plan import Plan
from ..program import Context, Program
from ..progress import Track, silent
from ..quantity import LatencyQuantity
from ..samples import noise_like, samples_of
from ..several import spend
from ..source import state_digest
from ..strategy import Allocator
from ..target import Target
from ..terms import Counts
from . import engine, measure
from .cost import NS, Latency, latency_of
from .engine import On
from .shapes import Layer, LayerShape, layers_of
from .table import Table

if TYPE_CHECKING:
    from onnx import ModelProto

Met = tuple[Allocation, Counts, dict[str, Any]]
NEAR = 0.01
ROUNDS = 5
LAYER_SECONDS, WHOLE_SECONDS, RACE_SECONDS = 1.0, 2.0, 1.5


@dataclass(frozen=True)
class Try:
    """One round: the correction of the table, the counts it led to, and their time: predicted, measured, wanted."""

    correction: float
    counts: Counts
    predicted_ms: float
    measured_ms: float
    share: float  # of the dense time, measured side by side
    off: float  # measured / wanted
    error: float = 0.0  # of the prediction

    @property
    def near(self) -> bool:
        """Whether that is what was asked for."""
        return abs(math.log(self.off)) <= NEAR

    @property
    def badness(self) -> float:
        """How far from the target; to be slower than asked is worse than to be faster."""
        return abs(math.log(self.off)) * (2 if self.off > 1 + NEAR else 1)

    def to_json(self) -> dict[str, float]:
        """For the report."""
        return {"predicted_ms": self.predicted_ms, "measured_ms": self.measured_ms, "share": self.share}


def within(problem: Allocation, method: Allocator, program: Program, context: Context) -> Met:
    """The counts that meet a target with latency in it, the problem with the corrected table, and for the report how.

    Raises BudgetError where it is out of reach, as measured with what costs least, or as a table from another
    machine has it; BackendError where such a table lacks layers of this network.
    """
    table, layers, dense = ready(program, context.on, context)
    whole = table.wholes.get(state_digest(program.module))
    cost = latency_of(program, layers, table, whole)
    wanted = next(one for one in problem.target.each if one.kind == "latency")
    search = _Search(problem, method, wanted, cost.total() if whole is None else round(whole.ms * NS))
    facts: dict[str, Any] = {"on": table.name, "target": wanted.own, "dense_ms": search.dense_ns / NS}
    if dense is None:
        counts = search.spent(cost)
        return search.timed(cost), counts, {"latency": facts | {"predicted_ms": cost.total(counts) / NS, "rounds": []}}
    tries: list[Try] = []
    while (found := search.next(cost, tries)) is not None and len(tries) < ROUNDS:
        race = _Race(dense, narrowed(program, problem, found), table, program, context)
        tries.append(search.judged(cost, found, *race.run()))
        if tries[-1].near:  # by chance, perhaps
            tries[-1] = search.judged(cost, found, *race.run())
        if tries[-1].near:
            break
        cost = cost.corrected(_correction(tries))
    best = min(tries, key=lambda one: one.badness)
    facts |= {"rounds": [one.to_json() for one in tries], "share": best.share, "ms": best.measured_ms}
    facts |= {"predicted_ms": best.predicted_ms, "off": best.off - 1, "table_error": tries[0].error}
    return search.timed(cost.corrected(best.correction)), best.counts, {"latency": facts}


@dataclass(frozen=True)
class _Search:
    """What stays the same from round to round."""

    problem: Allocation
    method: Allocator
    wanted: Target
    dense_ns: int

    def timed(self, cost: Latency) -> Allocation:
        """The problem in this table's time."""
        return replace(self.problem, latency=LatencyQuantity(cost, self.dense_ns))

    def spent(self, cost: Latency) -> Counts:
        """The counts within the budget as this table has it. Raises BudgetError where there are none."""
        return spend(self.timed(cost), self.method)

    def next(self, cost: Latency, tries: Sequence[Try]) -> Counts | None:
        """The next counts to measure; None where all has been tried.

        Where the table has none within the budget the leanest are measured before that is believed: raises BudgetError
        if they are too slow.
        """
        try:
            found = self.spent(cost)
        except BudgetError:
            found = leanest(self.problem.channels, cost)
            if any((one.counts == found).all() and one.off > 1 for one in tries):
                raise
        return None if any((one.counts == found).all() for one in tries) else found

    def judged(self, cost: Latency, counts: Counts, share: float, ms: float) -> Try:
        """What was measured, beside what was wanted and predicted."""
        true = share * self.dense_ns if self.wanted.unit is None else ms * NS
        predicted = cost.total(counts)
        off = true / self.wanted.allowed(self.dense_ns)
        return Try(cost.correction, counts, predicted / NS, ms, share, off, predicted / true - 1)


def _correction(tries: Sequence[Try]) -> float:
    """The next: between the nearest that were too slow and too fast, or else the last times how far it was off."""
    ordered = sorted(tries, key=lambda one: one.correction)
    slow = [one for one in ordered if one.off > 1]
    fast = [one for one in ordered if one.off <= 1]
    if not slow or not fast or slow[-1].correction >= fast[0].correction:
        return tries[-1].correction * tries[-1].off
    above, below = math.log(slow[-1].off), math.log(fast[0].off)
    weight = above / (above - below)
    return math.exp((1 - weight) * math.log(slow[-1].correction) + weight * math.log(fast[0].correction))


def ready(program: Program, on: On | None, context: Context) -> tuple[Table, list[Layer], ModelProto | None]:
    """The table with all that this network needs, its layers, and the dense network where it can be measured here."""
    table, layers = (on or On()).table(), layers_of(program)
    lacking = measure.missing(table, measure.needs_of(layers))
    if engine.is_here(table):
        table, model = filled(table, program, layers, context.track)
        return table, layers, model
    if lacking:
        raise BackendError(_unknown(table, lacking))
    return table, layers, None


def filled(table: Table, program: Program, layers: Sequence[Layer], track: Track = silent) -> tuple[Table, ModelProto]:
    """The table of this machine with all layers and the network itself, kept for the next run; and the dense network.

    Every few shapes the table is written, so that a run that was stopped goes on from there.
    """
    digest = state_digest(program.module)
    model = _exported(program)
    for chunk in measure.chunks(measure.missing(table, measure.needs_of(layers))):
        what = f"latency of {', '.join(map(str, list(chunk)[:2]))} …"
        table = table.with_grids(measure.grids(chunk, table, LAYER_SECONDS, track=track, what=what))
        engine.keep(table)
    if digest not in table.wholes:
        inputs = noise_like(program.example_inputs, table.batch)
        own = [layer for layer in layers if layer.rank >= 0 or not layer.parts]
        table = table.with_whole(digest, measure.whole(model, own, table, inputs, WHOLE_SECONDS, track))
        engine.keep(table)
    return table, model


def narrowed(program: Program, problem: Allocation, counts: Counts) -> ModelProto:
    """The network with these widths and ranks, and nothing fitted."""
    bare = program.knowing(Plan(problem.channels, problem.keep(counts)))
    narrow = Pipeline.parse("slice,decompose").run(bare, Context())
    return _exported(narrow)


def _exported(program: Program) -> ModelProto:
    from ..deploy.export import export_onnx

    here = program.on(CPU)
    return export_onnx(here.module, here.example_inputs, opset=18, dynamic_batch=program.dynamic_batch)


@dataclass(frozen=True)
class _Race:
    """The dense network and a narrow one, which run in turn as often as is asked; what is told is the mean."""

    dense: ModelProto
    narrow: ModelProto
    table: Table
    program: Program
    context: Context
    shares: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def run(self) -> tuple[float, float]:
        """The share of the dense time that the narrow network takes, and its own median in ms: as reports have them."""
        from ..deploy.benchmark import compare

        inputs, table = _samples(self.program, self.context, self.table.batch), self.table
        how: Any = {"batch": table.batch, "threads": table.threads, "seconds": RACE_SECONDS}
        found = compare(self.dense, self.narrow, inputs=inputs, track=self.context.track, **how)
        self.shares.append(1 / found.speedup.ratio)
        self.times.append(float(np.median(found.b_ms)))
        return geometric_mean(self.shares), geometric_mean(self.times)


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
