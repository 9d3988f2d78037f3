"""Compute the time of a run as a function of the counts kept.

    time = correction · ( sum over layers of factor · t(in, out)  +  rest  +  fixed )

`t` comes from the table, as a sum over parts if a layer is factored; `factor` is in `correction.py`; `rest` is the time
of all other kernels, in proportion to the values that they write; `fixed` is time outside kernels, so that the dense
network takes what was measured. Unit: nanoseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..channels.interpreter import overload_packet
from ..channels.spaces import Channels
from ..cost.builder import Builder
from ..cost.macs import Macs
from ..cost.memory import VIEWS, value_terms
from ..cost.terms import Array, Cost, Counts, Mixed, Terms
from ..ir import graph
from ..ir.program import Program
from .correction import Correction
from .layer_shapes import Layer
from .table import NS, Surface, Table, Whole


@dataclass(frozen=True)
class LayerTime:
    """Time of one layer, whole and, if it may be factored, in parts."""

    whole: Surface
    rank: int | None = None  # index of its rank space; None without one
    full: int = 0  # full rank: the layer is whole
    parts: tuple[Surface, ...] = ()
    gate: int | None = None  # index of the space of its residual branch; None outside branches

    def __call__(self, into: Counts, out: Counts, rank: Counts) -> Array:
        """Return the time with so many channels read and made, and ranks, elementwise."""
        whole = self.whole(into, out)
        if self.rank is None:
            return whole
        inner = np.minimum(rank, self.full - 1)
        widths = [into, *[inner] * (len(self.parts) - 1), out]
        split = np.sum([part(widths[place], widths[place + 1]) for place, part in enumerate(self.parts)], 0)
        exact: Array = np.where(rank < self.full, split, whole)
        return exact


@dataclass(frozen=True)
class Latency:
    """A `Cost` in nanoseconds.

    Channels read by layers are `in_fixed` + `in_rows` @ counts, [layers] and [layers, spaces]; channels made likewise.
    """

    layers: tuple[LayerTime, ...]
    in_fixed: Counts
    in_rows: Counts
    out_fixed: Counts
    out_rows: Counts
    rest: Terms
    sizes: Counts  # of the dense network
    fixed: float = 0.0
    correction: float = 1.0
    _known: dict[tuple[int | None, ...], Array] = field(default_factory=dict, repr=False, compare=False)

    def total(self, counts: Counts | None = None) -> int:
        """Return the time for `counts`, by default those of the dense network."""
        return round(self._total(self.sizes if counts is None else counts))

    @property
    def dense_ns(self) -> float:
        """Return the time of the dense network, not rounded."""
        return self._total(self.sizes)

    def along(self, counts: Counts, space: int) -> Array:
        """Return the times with 0, 1, … size coordinates of `space`, other counts fixed."""
        curve = self.touched_along(counts, space)
        found: Array = curve + (self._total(counts) - curve[counts[space]])
        return found

    def touched_along(self, counts: Counts, space: int) -> Array:
        """Return the times of `along`, up to a constant."""
        steps = np.arange(self.sizes[space] + 1)
        others = counts.copy()
        others[space] = 0
        into, out = self._widths(others)
        found: Array = self.rest.touched_along(counts, space)
        for number in self._touched[space]:
            found = found + self._row(number, space, into[number], out[number], others, steps)
        return self.correction * found

    def corrected(self, correction: float) -> Latency:
        """Return a copy with `correction` in place of the former factor."""
        return replace(self, correction=correction)

    @property
    def ranks(self) -> list[int]:
        """Return the indices of the rank spaces."""
        return [layer.rank for layer in self.layers if layer.rank is not None]

    @cached_property
    def _touched(self) -> list[list[int]]:
        """List, by space, the layers whose time depends on it."""
        reads = (self.in_rows != 0) | (self.out_rows != 0)
        for number, layer in enumerate(self.layers):
            reads[number, [space for space in (layer.rank, layer.gate) if space is not None]] = True
        return [list(map(int, column.nonzero()[0])) for column in reads.T]

    def _widths(self, counts: Counts) -> tuple[list[int], list[int]]:
        into, out = self.in_fixed + self.in_rows @ counts, self.out_fixed + self.out_rows @ counts
        return into.tolist(), out.tolist()

    def _total(self, counts: Counts) -> float:
        into, out = self._widths(counts)
        time = self.fixed + float(self.rest.by_product(counts).sum())
        for number in range(len(self.layers)):
            time += float(self._row(number, None, into[number], out[number], counts, np.zeros(1, np.int64))[0])
        return self.correction * time

    def _row(self, number: int, space: int | None, into: int, out: int, counts: Counts, steps: Counts) -> Array:
        """Return a layer's times with `steps` more coordinates of a space; 0 without its branch."""
        gate = self.layers[number].gate
        stays: Any = 1 if gate is None else steps if gate == space else counts[gate]
        found: Array = stays * self._alone(number, space, into, out, counts, steps)
        return found

    def _alone(self, number: int, space: int | None, into: int, out: int, counts: Counts, steps: Counts) -> Array:
        """Return a layer's times if its branch is kept, cached."""
        layer = self.layers[number]
        own = layer.rank is not None and layer.rank == space
        rank = None if layer.rank is None or own else int(counts[layer.rank])
        key = (number, space, into, out, rank)
        if key not in self._known:
            more_in, more_out = (0, 0) if space is None else (self.in_rows[number, space], self.out_rows[number, space])
            ranks = steps if rank is None else np.full_like(steps, rank)
            self._known[key] = layer(into + more_in * steps, out + more_out * steps, ranks)
        return self._known[key]


def latency_of(program: Program, layers: Sequence[Layer], table: Table, whole: Whole | None) -> Latency:
    """Build the cost model of an analysed program whose layers are all in the table."""
    macs = Macs.of(program.fact(Channels))
    rows = [layer.product for layer in layers]
    made, read = macs.rows[:, rows].astype(np.int64)
    (fixed_in, in_rows), (fixed_out, out_rows) = ((side[:, -1], side[:, :-1]) for side in (read, made))
    times, correction = [], Correction.of(table, whole)
    for number, layer in enumerate(layers):
        widest = tuple(
            int(fixed[number] + each[number] @ macs.sizes)
            for fixed, each in ((fixed_in, in_rows), (fixed_out, out_rows))
        )
        ends = [widest[0], *[layer.full] * (len(layer.parts) - 1), widest[1]]
        parts = tuple(
            Surface.of(table, part, (ends[place], ends[place + 1]), correction.factor(part))
            for place, part in enumerate(layer.parts)
        )
        surface = Surface.of(table, layer.shape, (widest[0], widest[1]), correction.factor(layer.shape))
        times.append(LayerTime(surface, layer.rank, layer.full, parts, macs.terms[layer.product].gate))
    rest = _values_written(program, layers)
    nothing = Terms((), macs.sizes)
    cost = Latency(tuple(times), fixed_in, in_rows, fixed_out, out_rows, nothing, macs.sizes)
    return cost if whole is None else _calibrated(cost, rest, layers, whole)


def _calibrated(cost: Latency, rest: Terms, layers: Sequence[Layer], whole: Whole) -> Latency:
    """Add the time outside layers, so that the dense network takes the measured time.

    A layer whose kernel was not recognised is in the measured rest, and is not counted twice.
    """
    shapes, in_layers = {layer.shape for layer in layers}, cost.dense_ns
    known = sum(one.ms for shape, one in whole.within.items() if shape in shapes) * NS
    wanted, dense = max(whole.rest_ms * NS - max(in_layers - known, 0.0), 0.0), rest.total()
    shared = rest.scaled(np.full(len(rest.terms), wanted / dense if dense else 0.0))
    in_rest = float(shared.by_product(cost.sizes).sum())
    return replace(cost, rest=shared, fixed=whole.ms * NS - in_layers - in_rest)


def _values_written(program: Program, layers: Sequence[Layer]) -> Terms:
    """Count the entries written by all nodes but the layers; they share the rest's time."""
    channels = program.fact(Channels)
    timed = {layer.one.node for layer in layers}
    values = graph.example_values(program.module, program.example_inputs)
    build = Builder(channels)
    for node in program.module.graph.nodes:
        if node.op == "call_function" and node.name not in timed and overload_packet(node) not in VIEWS:
            value_terms(build, channels, node, values[node], 1)
    return build.terms()


@dataclass(frozen=True)
class LatencyQuantity:
    """Time of a run in nanoseconds by a latency table, a nonlinear `Resource`."""

    cost: Latency
    dense: int  # as measured

    kind = "latency"
    steps = 1

    def used(self, counts: Counts | None = None) -> Array:
        """Return the time for `counts`, [1]."""
        return np.array([self.total(counts)], dtype=np.float64)

    def total(self, counts: Counts | None = None) -> int:
        """Return the time with these counts; by default of the dense network."""
        return self.cost.total(counts)

    def weighted(self, weights: Array) -> Cost:
        """Scale the time by its weight [1]."""
        return Mixed((self.cost,), (float(weights[0]),))
