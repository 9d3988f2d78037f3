"""Interpolate the measured times of one layer shape to all widths of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..cost.terms import Array, Counts
from .layer_shapes import LayerShape
from .table import Table, odd_of, weights_of

NS = 1e6  # ns in a ms


@dataclass(frozen=True)
class Surface:
    """Time of one layer shape in ns at all widths up to a layer's."""

    into: Array  # [widest read + 1, ins]
    times: Array  # [ins, outs]
    out: Array  # [widest made + 1, outs]
    odd_in: Array  # [widest read + 1]
    odd_out: Array

    @staticmethod
    def of(table: Table, shape: LayerShape, widest: tuple[int, int], factor: float = 1.0) -> Surface:
        """Interpolate a shape of the table, its times multiplied by `factor`."""
        grid, likes = table.grids[shape], table.likes
        into = np.ones((widest[0] + 1, 1)) if shape.group else weights_of(grid.ins, likes, widest[0])
        odd_in = np.ones(len(into)) if shape.group else odd_of(grid.odd_in, likes, widest[0], grid.ins)
        out = weights_of(grid.outs, likes, widest[1])
        odd_out = odd_of(grid.odd_out, likes, widest[1], grid.outs)
        return Surface(into, grid.times * factor * NS, out, odd_in, odd_out)

    def __call__(self, into: Counts, out: Counts) -> Array:
        """Return the times for channels read and made, elementwise; 0 without channels."""
        plain: Array = ((self.into[into] @ self.times) * self.out[out]).sum(-1)
        return plain * self.odd_in[into] * self.odd_out[out]
