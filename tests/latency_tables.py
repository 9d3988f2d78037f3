"""Latency tables that nobody measured: of a device in which a layer takes a nanosecond a MAC."""

from __future__ import annotations

import numpy as np

from prunec.ir.program import Program
from prunec.latency import layer_shapes, measure
from prunec.latency.table import Grid, Table

EVERYWHERE = {"engine": "ort-cpu", "version": "0", "cpu": "a device", "isa": [], "cores": 1, "target": "generic"}


def by_macs(program: Program, table: Table, fixed: float = 0.0) -> Table:
    """Build a table of a nanosecond per MAC, plus `fixed` ms, as if measured elsewhere."""
    found = {}
    for shape, span in measure.needs_of(layer_shapes.layers_of(program)).items():
        rungs = measure._Rungs.of(shape, span, table)
        one = [[fixed + 1e-6 * macs_of(shape, *rungs.node(i, o)) for o in rungs.outs] for i in rungs.ins]
        found[shape] = Grid(rungs.ins, rungs.outs, tuple(map(tuple, one)))
    return table.with_grids(found)


def macs_of(shape: layer_shapes.LayerShape, into: int, out: int) -> int:
    if shape.op == layer_shapes.LINEAR:
        return int(np.prod(shape.size)) * into * out
    places = np.prod(shape.size if shape.op == layer_shapes.TRANSPOSED else layer_shapes._output(shape))
    return int(places * np.prod(shape.kernel)) * out * (shape.group[0] if shape.group else into // shape.groups)
