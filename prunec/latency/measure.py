"""Fill a table: every layer shape of a network at a ladder of widths, in turn with the network itself.

    time of a kernel = mean of the middle half of its samples

A session holds one shape at all its widths, and sessions run in rounds, so that load and heat meet all alike. What ONNX
Runtime adds around a layer that stands alone, changes of layout above all, are kernels of their own, and not counted.
What a network adds to its layers is measured on the network: `Whole`.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
from torch import Tensor

from ..deploy.layers import network_of
from ..deploy.runtime import Array, Model, denormals_as_zero, feed_of, session
from ..deploy.timing.inputs import noise
from ..deploy.timing.sampling import until
from ..deploy.timing.statistics import middle_mean
from ..diff.profiles import kernels, read, samples_of
from ..progress import Track, silent
from .layer_models import BEFORE, model_of, name_of
from .shapes import LINEAR, Layer, LayerShape
from .summary import alone
from .table import Grid, Table, Whole, ladder

AT_ONCE = 6  # shapes whose sessions are open together
ROUNDS = 12  # at least, after the warm-up
WARM_UP = 3


@dataclass(frozen=True)
class Span:
    """The widths of a shape: those of the dense network, which are measured, and up to which the ladder goes."""

    ins: frozenset[int] = frozenset()
    outs: frozenset[int] = frozenset()
    most_in: int = 0
    most_out: int = 0

    def __or__(self, other: Span) -> Span:
        """The widths of both."""
        most = max(self.most_in, other.most_in), max(self.most_out, other.most_out)
        return Span(self.ins | other.ins, self.outs | other.outs, *most)

    def within(self, grid: Grid) -> bool:
        """Whether the grid tells them all."""
        exact = self.ins <= set(grid.ins) and self.outs <= set(grid.outs)
        return exact and self.most_in <= grid.ins[-1] and self.most_out <= grid.outs[-1]


Needs = Mapping[LayerShape, Span]
Inputs = Sequence[Tensor | Array]


def needs_of(layers: Sequence[Layer]) -> Needs:
    """By shape: the widths of the layers, and of their parts at ranks up to those of their spaces."""
    found: dict[LayerShape, Span] = defaultdict(Span)
    for layer in layers:
        into, out = 1 if layer.shape.group else len(layer.one.inputs), len(layer.one.outputs)
        found[layer.shape] |= Span(frozenset({into}), frozenset({out}), into, out)
        ends = [into, *[layer.full] * (len(layer.parts) - 1), out]
        for place, part in enumerate(layer.parts):
            found[part] |= Span(most_in=ends[place], most_out=ends[place + 1])
    return dict(found)


def missing(table: Table, needs: Needs) -> Needs:
    """What the table cannot tell yet; a shape known in part is measured again, with what was known."""
    found = {}
    for shape, span in needs.items():
        grid = table.grids.get(shape)
        if grid is None:
            found[shape] = span
        elif not span.within(grid):
            found[shape] = span | Span(frozenset(), frozenset(), grid.ins[-1], grid.outs[-1])
    return found


def chunks(needs: Needs) -> Iterator[Needs]:
    """A few shapes at a time."""
    listed = sorted(needs.items(), key=lambda one: one[0])
    for start in range(0, len(listed), AT_ONCE):
        yield dict(listed[start : start + AT_ONCE])


@dataclass(frozen=True)
class _Rungs:
    """The widths of one shape, and how the nodes of its model are called."""

    shape: LayerShape
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    odd: bool  # whether numbers off the granule are measured too

    @staticmethod
    def of(shape: LayerShape, span: Span, table: Table) -> _Rungs:
        unit = shape.group[1] if shape.group else shape.groups
        ins = (1,) if shape.group else _rungs(span.ins, span.most_in, table, unit)
        outs = _rungs(span.outs, span.most_out, table, unit)
        wide = outs[-1] > table.likes.block and (bool(shape.group) or ins[-1] > table.likes.block)
        odd = wide and unit == 1 and shape.op != LINEAR and table.likes.granule > 1
        return _Rungs(shape, ins, outs, odd)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """What is read and made by each node."""
        found = [self.node(into, out) for into in self.ins for out in self.outs]
        return found + ([self.node(*pair) for pair in self.odd_pairs] if self.odd else [])

    @property
    def odd_pairs(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The widest layer with one channel less read, and with one less made."""
        into, out = self.ins[-1], self.outs[-1]
        return (into - 1 if not self.shape.group else into, out), (into, out - 1)

    def node(self, into: int, out: int) -> tuple[int, int]:
        """The channels that the node of that place reads and makes."""
        return (out // self.shape.group[1] * self.shape.group[0], out) if self.shape.group else (into, out)

    def grid(self, times: Mapping[str, float]) -> Grid:
        def ms(into: int, out: int) -> float:
            return times[name_of(*self.node(into, out))]

        rows = tuple(tuple(ms(into, out) for out in self.outs) for into in self.ins)
        if not self.odd:
            return Grid(self.ins, self.outs, rows)
        factors = [max(ms(*pair) / rows[-1][-1], 1.0) for pair in self.odd_pairs]
        return Grid(self.ins, self.outs, rows, *factors)


def _rungs(exact: frozenset[int], most: int, table: Table, unit: int) -> tuple[int, ...]:
    points = {*ladder(most, table.likes), *exact}
    return tuple(sorted({-(-one // unit) * unit for one in points}))


def grids(
    needs: Needs, table: Table, seconds: float, seed: int = 0, track: Track = silent, what: str = "layers"
) -> dict[LayerShape, Grid]:
    """The times of some shapes up to the widths that are needed, for as many seconds and `ROUNDS` rounds at least."""
    rungs = [_Rungs.of(shape, span, table) for shape, span in needs.items()]
    models = [model_of(one.shape, one.pairs, table.batch, seed) for one in rungs]
    with _profiled(models, table) as opened:
        for _ in track(until(seconds, ROUNDS + WARM_UP), what):
            for run in opened.runs:
                run()
        taken = opened.samples()
    found = {}
    for one, samples in zip(rungs, taken, strict=True):
        times: dict[str, float] = defaultdict(float)
        for stem, each in samples.items():
            times[stem.removesuffix(BEFORE)] += middle_mean(each[WARM_UP:])
        found[one.shape] = one.grid(times)
    return found


def whole(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    table: Table,
    inputs: Inputs,
    seconds: float,
    track: Track = silent,
) -> Whole:
    """Measure the network itself, its layers within it, and what is not in them; its shapes are in the table."""
    network = network_of(model)
    by_weight = {layer.one.weight: layer for layer in layers}
    plain = session(model, threads=table.threads)
    feed = feed_of(plain, inputs)
    walls = []
    with _profiled([model], table, inputs) as opened:
        for _ in track(until(seconds, ROUNDS + WARM_UP), "the whole network"):
            opened.runs[0]()
            started = time.perf_counter()
            plain.run(None, feed)
            walls.append((time.perf_counter() - started) * 1e3)
        entries = opened.entries()[0]
    owned: dict[str, list[float]] = defaultdict(list)  # by shape: time within over time alone
    ran = kernels(entries, network)
    rest = [kernel.ms for kernel in ran if f"{kernel.layer}.weight" not in by_weight]
    for kernel in ran:
        layer = by_weight.get(f"{kernel.layer}.weight")
        if layer is not None:
            owned[str(layer.shape)].append(kernel.ms / alone(table, layer))
    factors = {name: math.exp(sum(map(math.log, each)) / len(each)) for name, each in owned.items()}
    total = sum(kernel.ms for kernel in ran)
    return Whole(middle_mean(walls[WARM_UP:]), len(ran), total, len(rest), sum(rest), factors)


@dataclass(frozen=True)
class _Profiled:
    """Sessions that write down the time of each kernel."""

    opened: list[Any]
    feeds: list[dict[str, Array]]

    @property
    def runs(self) -> list[Any]:
        return [
            lambda one=one, feed=feed: one.run(None, feed) for one, feed in zip(self.opened, self.feeds, strict=True)
        ]

    def entries(self) -> list[list[dict[str, Any]]]:
        return [read(Path(one.end_profiling())) for one in self.opened]

    def samples(self) -> list[dict[str, list[float]]]:
        return [samples_of(each) for each in self.entries()]


@contextmanager
def _profiled(models: Sequence[Model], table: Table, inputs: Inputs | None = None) -> Iterator[_Profiled]:
    with TemporaryDirectory() as folder, denormals_as_zero():
        opened = [
            session(model, threads=table.threads, profile=Path(folder) / str(number))
            for number, model in enumerate(models)
        ]
        yield _Profiled(opened, [feed_of(one, inputs or noise(one, table.batch, 0)) for one in opened])
