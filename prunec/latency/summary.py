"""Summarise a network's latency table, and the error of the sum of its layers."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from ..ir.program import Program
from .correction import Correction
from .layer_shapes import Layer, LayerShape, layers_of
from .table import Table
from .whole_network import digest_of


def summary(program: Program, table: Table) -> dict[str, Any]:
    """Return times by shape, alone and within the network, and the uncalibrated sum."""
    whole = table.wholes[digest_of(program)]
    correction = Correction.of(table, whole)
    by_shape: dict[LayerShape, list[Layer]] = defaultdict(list)
    for layer in layers_of(program):
        by_shape[layer.shape].append(layer)
    rows: list[dict[str, Any]] = []
    for shape, layers in by_shape.items():
        apart = sum(alone(table, layer) for layer in layers)
        within = apart * correction.factor(shape)
        rows.append({"shape": str(shape), "layers": len(layers), "alone_ms": apart, "within_ms": within})
    total = sum(float(row["alone_ms"]) for row in rows) + whole.rest_ms
    return {
        "on": table.name,
        "shapes": rows,
        "shapes_in_table": len(table.grids),
        "rest_ms": whole.rest_ms,
        "whole_ms": whole.ms,
        "sum_ms": total,
        "error": total / whole.ms - 1,
    }


def alone(table: Table, layer: Layer) -> float:
    """Return the measured time of a dense layer, in ms."""
    grid = table.grids[layer.shape]
    into = 1 if layer.shape.group else len(layer.one.inputs)
    return float(grid.times[grid.ins.index(into), grid.outs.index(len(layer.one.outputs))])
