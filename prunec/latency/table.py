"""Hold the time of each layer shape at a ladder of widths.

    t(i, o) = interpolation between measured widths, at i and o rounded up to the blocks that the engine computes,
              · measured slowdown if i (o) is off the granule

A table is valid for one engine on one machine. Within a block nothing is saved: 49 channels take the time of 56 in
blocks of 8. A file can be written on the target device and read on the workstation that compresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ..cost.hardware import DeployTarget, target_of
from ..cost.terms import Array, Counts
from ..files.artefacts import write_json
from .layer_shapes import LayerShape

NS = 1e6  # ns in a ms
RUNGS = 7  # widths of a ladder, at most
FORMAT = 3  # of the file and the measurement; tables of another format are measured again


@dataclass(frozen=True)
class Grid:
    """Times in ms of one shape: `ms[a][b]` for `ins[a]` channels read and `outs[b]` made."""

    ins: tuple[int, ...]
    outs: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...]
    odd_in: float = 1.0
    """Slowdown if the number read is off the granule."""
    odd_out: float = 1.0

    @cached_property
    def times(self) -> Array:
        """Return `ms` as an array, [ins, outs]."""
        return np.array(self.ms)


@dataclass(frozen=True)
class Within:
    """Time in ms of one shape's layers within a network, and their widths."""

    ms: float
    widths: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Whole:
    """Times of a whole network with its layers; compare `correction`."""

    ms: float  # wall time of a run
    kernels: int
    rest_ms: float  # of kernels of no layer in the table: additions, pooling, changes of layout
    within: Mapping[LayerShape, Within]  # of its layers, and of the parts that they may become

    def with_parts_of(self, other: Whole) -> Whole:
        """Add the shapes that only `other` has measured: parts of other splits."""
        return replace(self, within={**other.within, **self.within})


@dataclass(frozen=True)
class Table:
    """Grids by shape, and the setup that they are valid for."""

    machine: Mapping[str, Any]  # cpu, isa, engine and its version
    batch: int
    threads: int
    grids: Mapping[LayerShape, Grid] = field(default_factory=lambda: MappingProxyType({}))
    wholes: Mapping[str, Whole] = field(default_factory=lambda: MappingProxyType({}))  # by `digest_of`
    own: bool = field(default=False, compare=False)  # in this machine's cache, not a user's file

    @property
    def likes(self) -> DeployTarget:
        """Return the blocks and granules of its engine."""
        return target_of(str(self.machine["target"]))

    @property
    def name(self) -> str:
        """Return the name, `ort-cpu{batch=1,threads=1} on AMD EPYC`."""
        return f"{self.machine['engine']}{{batch={self.batch},threads={self.threads}}} on {self.machine['cpu']}"

    def with_grids(self, more: Mapping[LayerShape, Grid]) -> Table:
        """Return a table with `more` grids, which replace those of equal shape."""
        return replace(self, grids={**self.grids, **more})

    def with_whole(self, digest: str, whole: Whole) -> Table:
        """Return a table with one more network."""
        return replace(self, wholes={**self.wholes, digest: whole})

    def to_json(self) -> dict[str, Any]:
        """Return the content of its file."""
        return {
            "format": FORMAT,
            "machine": dict(self.machine),
            "batch": self.batch,
            "threads": self.threads,
            "layers": [
                {"shape": shape.to_json(), "name": str(shape), **asdict(grid)}
                for shape, grid in sorted(self.grids.items())
            ],
            "networks": {digest: _whole(whole) for digest, whole in self.wholes.items()},
        }

    def save(self, path: Path) -> None:
        """Write the table atomically. Raises DataError if the disk refuses."""
        write_json(path, self.to_json())


def _whole(whole: Whole) -> dict[str, Any]:
    within = [
        {"shape": shape.to_json(), "name": str(shape), **asdict(one)} for shape, one in sorted(whole.within.items())
    ]
    return {"ms": whole.ms, "kernels": whole.kernels, "rest_ms": whole.rest_ms, "within": within}


def ladder(size: int, likes: DeployTarget) -> tuple[int, ...]:
    """Return the widths to measure up to `size`: preferred multiples, denser at small sizes."""
    if size <= likes.likes:
        step = max(likes.granule, likes.likes // 4, 1)
        return (*range(step, size, step), size)
    fine = max(likes.granule, likes.likes // 2)
    if size <= RUNGS * fine:
        return (*range(fine, size, fine), size)
    wanted = np.linspace(likes.likes, size, RUNGS)
    found = {round(float(one) / likes.likes) * likes.likes for one in wanted[:-1]}
    return (*sorted(one for one in found if 0 < one < size), size)


def weights_of(points: tuple[int, ...], likes: DeployTarget, size: int) -> Array:
    """Return the interpolation weights at 0, 1, … `size` channels, [size + 1, points].

    Rows sum to 1, row 0 is 0. A measured width counts as it is, any other as the next whole block.
    """
    counts = np.arange(size + 1)
    padded = np.minimum(-(-counts // likes.block) * likes.block, max(points[-1], size))
    padded = np.where(np.isin(counts, points), counts, padded).astype(np.float64)
    found = np.stack([np.interp(padded, points, row) for row in np.eye(len(points))], 1)
    found[0] = 0.0
    return found


def odd_of(factor: float, likes: DeployTarget, size: int, points: tuple[int, ...]) -> Array:
    """Return `factor` at unmeasured widths off the granule, else 1: [size + 1]."""
    counts = np.arange(size + 1)
    off = (counts % likes.granule != 0) & ~np.isin(counts, points)
    return np.where(off, factor, 1.0)


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
