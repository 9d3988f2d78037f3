"""A latency table: the time of each layer shape at a ladder of widths, with one engine on one machine.

    t(i, o) = interpolation between measured widths, at i and o rounded up to the blocks that the engine computes,
              · what reading (making) a number of channels off the granule was measured to cost

Between blocks nothing is saved: 49 channels take what 56 take in blocks of 8, and the table says so. A file can be
written on the device where a network will run and read on the workstation where it is compressed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cost.hardware import DeployTarget, target_of
from ..files.artefacts import write_json
from .layer_shapes import LayerShape

Array = npt.NDArray[np.float64]
FORMAT = 3  # of the file and of the way to measure: tables of another one are measured again


@dataclass(frozen=True)
class Grid:
    """Times in ms of one shape: `ms[a][b]` with `ins[a]` channels read and `outs[b]` made."""

    ins: tuple[int, ...]
    outs: tuple[int, ...]
    ms: tuple[tuple[float, ...], ...]
    odd_in: float = 1.0
    """Times as long where the number read is off the granule."""
    odd_out: float = 1.0

    @cached_property
    def times(self) -> Array:
        """`ms` as an array, [ins, outs]."""
        return np.array(self.ms)


@dataclass(frozen=True)
class Within:
    """Time in ms that the layers of one shape take within a network, and the channels that each reads and makes."""

    ms: float
    widths: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Whole:
    """Times of a whole network, measured with its layers; `correction` compares them with those of layers alone."""

    ms: float  # wall time of a run
    kernels: int
    rest_ms: float  # of kernels of no layer in the table: additions, pooling, changes of layout
    within: Mapping[LayerShape, Within]  # of its layers, and of the parts that they may become

    def with_parts_of(self, other: Whole) -> Whole:
        """Add the shapes that only `other` has measured: parts of another way to split."""
        return replace(self, within={**other.within, **self.within})


@dataclass(frozen=True)
class Table:
    """Grids by shape, and what they are true for."""

    machine: Mapping[str, Any]  # cpu, isa, engine and its version
    batch: int
    threads: int
    grids: Mapping[LayerShape, Grid] = field(default_factory=lambda: MappingProxyType({}))
    wholes: Mapping[str, Whole] = field(default_factory=lambda: MappingProxyType({}))  # by `whole.digest_of`
    own: bool = field(default=False, compare=False)  # kept in this machine's cache; never a file of the user's

    @property
    def likes(self) -> DeployTarget:
        """The blocks and granules of its engine."""
        return target_of(str(self.machine["target"]))

    @property
    def name(self) -> str:
        """`ort-cpu{batch=1,threads=1} on AMD EPYC`"""
        return f"{self.machine['engine']}{{batch={self.batch},threads={self.threads}}} on {self.machine['cpu']}"

    def with_grids(self, more: Mapping[LayerShape, Grid]) -> Table:
        """The table with further grids, which replace those of the same shape."""
        return replace(self, grids={**self.grids, **more})

    def with_whole(self, digest: str, whole: Whole) -> Table:
        """The table with a further network."""
        return replace(self, wholes={**self.wholes, digest: whole})

    def to_json(self) -> dict[str, Any]:
        """For a file."""
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
        """Write it, whole or not at all. Raises DataError where the disk refuses."""
        write_json(path, self.to_json())


def _whole(whole: Whole) -> dict[str, Any]:
    within = [
        {"shape": shape.to_json(), "name": str(shape), **asdict(one)} for shape, one in sorted(whole.within.items())
    ]
    return {"ms": whole.ms, "kernels": whole.kernels, "rest_ms": whole.rest_ms, "within": within}


def ladder(size: int, likes: DeployTarget, rungs: int = 7) -> tuple[int, ...]:
    """The widths to measure up to `size`: multiples that the engine likes, closer together where they are few."""
    if size <= likes.likes:
        step = max(likes.granule, likes.likes // 4, 1)
        return (*range(step, size, step), size)
    fine = max(likes.granule, likes.likes // 2)
    if size <= rungs * fine:
        return (*range(fine, size, fine), size)
    wanted = np.linspace(likes.likes, size, rungs)
    found = {round(float(one) / likes.likes) * likes.likes for one in wanted[:-1]}
    return (*sorted(one for one in found if 0 < one < size), size)


def weights_of(points: tuple[int, ...], likes: DeployTarget, size: int) -> Array:
    """How to interpolate at 0, 1, … `size` channels: [size + 1, points], a row's sum is 1; all 0 for no channel.

    A measured width counts as it is, any other as the next whole block.
    """
    counts = np.arange(size + 1)
    padded = np.minimum(-(-counts // likes.block) * likes.block, max(points[-1], size))
    padded = np.where(np.isin(counts, points), counts, padded).astype(np.float64)
    found = np.stack([np.interp(padded, points, row) for row in np.eye(len(points))], 1)
    found[0] = 0.0
    return found


def odd_of(factor: float, likes: DeployTarget, size: int, points: tuple[int, ...]) -> Array:
    """1, or `factor` at numbers off the granule that were not measured themselves: [size + 1]."""
    counts = np.arange(size + 1)
    off = (counts % likes.granule != 0) & ~np.isin(counts, points)
    return np.where(off, factor, 1.0)
