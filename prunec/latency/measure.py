"""Fill a table: time each layer shape of a network at a ladder of widths.

    time of a kernel = mean of the middle half of its samples, less what profiling adds (`profiled`)

A session holds one shape at all its widths. Sessions run in rounds, so that load and heat affect all alike. Kernels
that ONNX Runtime adds around a lone layer, mostly changes of layout, are not counted; those of a network are in
`Whole`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..compare.profiles import samples_of
from ..cost.hardware import DeployTarget
from ..deploy.benchmark.sampling import until
from ..deploy.benchmark.statistics import middle_mean
from ..progress import Track, silent
from .layer_models import BEFORE, model_of, name_of
from .layer_shapes import LINEAR, Layer, LayerShape
from .profiler import WARM_UP, kernel_ms, profiled
from .table import Grid, Table, ladder

AT_ONCE = 6  # shapes whose sessions are open together
ROUNDS = 12  # least number of rounds after the warm-up


@dataclass(frozen=True)
class Span:
    """Widths of a shape: exact ones to measure, and the ends of its ladder."""

    ins: frozenset[int] = frozenset()
    outs: frozenset[int] = frozenset()
    most_in: int = 0
    most_out: int = 0

    def __or__(self, other: Span) -> Span:
        """Return the widths of both."""
        most = max(self.most_in, other.most_in), max(self.most_out, other.most_out)
        return Span(self.ins | other.ins, self.outs | other.outs, *most)

    def within(self, grid: Grid) -> bool:
        """Return whether the grid covers all these widths."""
        exact = self.ins <= set(grid.ins) and self.outs <= set(grid.outs)
        return exact and self.most_in <= grid.ins[-1] and self.most_out <= grid.outs[-1]


Needs = Mapping[LayerShape, Span]


def needs_of(layers: Sequence[Layer]) -> Needs:
    """Return, by shape, the widths of layers and of parts up to full rank."""
    found: dict[LayerShape, Span] = defaultdict(Span)
    for layer in layers:
        into, out = 1 if layer.shape.group else len(layer.one.inputs), len(layer.one.outputs)
        found[layer.shape] |= Span(frozenset({into}), frozenset({out}), into, out)
        ends = [into, *[layer.full] * (len(layer.parts) - 1), out]
        for place, part in enumerate(layer.parts):
            found[part] |= Span(most_in=ends[place], most_out=ends[place + 1])
    return dict(found)


def missing(table: Table, needs: Needs) -> Needs:
    """Return the needs that the table lacks; a partly known shape is measured again."""
    found = {}
    for shape, span in needs.items():
        grid = table.grids.get(shape)
        if grid is None:
            found[shape] = span
        elif not span.within(grid):
            found[shape] = span | exact_of(grid, table.likes)
    return found


def exact_of(grid: Grid, likes: DeployTarget) -> Span:
    """Return the widths of a grid that are off its ladder, and the widest."""
    ins, outs = (frozenset({*set(each) - set(ladder(each[-1], likes)), each[-1]}) for each in (grid.ins, grid.outs))
    return Span(ins, outs, grid.ins[-1], grid.outs[-1])


def chunks(needs: Needs) -> Iterator[Needs]:
    """Yield a few shapes at a time."""
    listed = sorted(needs.items(), key=lambda one: one[0])
    for start in range(0, len(listed), AT_ONCE):
        yield dict(listed[start : start + AT_ONCE])


@dataclass(frozen=True)
class _Rungs:
    """Widths of one shape, and the names of its model's nodes."""

    shape: LayerShape
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    odd: bool  # measure widths off the granule, too

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
        """Return the channels read and made by each node."""
        found = [self.node(into, out) for into in self.ins for out in self.outs]
        return found + ([self.node(*pair) for pair in self.odd_pairs] if self.odd else [])

    @property
    def odd_pairs(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the widest pair with one channel fewer read, and with one fewer made."""
        into, out = self.ins[-1], self.outs[-1]
        return (into - 1 if not self.shape.group else into, out), (into, out - 1)

    def node(self, into: int, out: int) -> tuple[int, int]:
        """Return the channels that the node at these widths reads and makes."""
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
    needs: Needs, table: Table, seconds: float, track: Track = silent, what: str = "layers"
) -> dict[LayerShape, Grid]:
    """Measure the times of shapes, for `seconds` and at least `ROUNDS` rounds."""
    rungs = [_Rungs.of(shape, span, table) for shape, span in needs.items()]
    models = [model_of(one.shape, one.pairs, table.batch) for one in rungs]
    with profiled(models, table.threads, table.batch) as opened:
        for _ in track(until(seconds, ROUNDS + WARM_UP), what):
            opened.tell()
        excess, taken = opened.excess_ms(), [samples_of(each.entries()) for each in opened.sessions]
    found = {}
    for one, samples in zip(rungs, taken, strict=True):
        times: dict[str, float] = defaultdict(float)
        for stem, each in samples.items():
            times[stem.removesuffix(BEFORE)] += kernel_ms(middle_mean(each[WARM_UP:]), excess)
        found[one.shape] = one.grid(times)
    return found
