"""Time the kernels of models in ONNX Runtime, less the overhead p of profiling.

    p = [ (kernels - wall) of 64 small layers  -  (kernels - wall) of 16 ] / 48

`wall` is the time of a run of the same layers without profiling. p changes from minute to minute, so the small layers
run among the models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from ..compare.profiles import Kernel, in_order, kernels, read
from ..deploy.benchmark.inputs import noise
from ..deploy.benchmark.onnx_sessions import whole
from ..deploy.benchmark.sampling import WALL, timed
from ..deploy.benchmark.statistics import middle_mean
from ..deploy.onnx.layers import network_of
from ..deploy.ort.runtime import Array, Model, denormals_as_zero, feed_of, session
from .layer_models import IR, OPSET

LONG, SHORT = 64, 16  # layers
CHANNELS, SIZE, TAPS = 16, 8, 3
WARM_UP = 3
LEAST = 0.1  # least share of a kernel's time that is kept
Entries = list[Mapping[str, Any]]
Inputs = Sequence[Tensor | Array]
Ran = tuple[Sequence[Kernel], float]  # the kernels of a model, and the wall time of a run without profiling


@dataclass(frozen=True)
class Session:
    """Model opened twice: with profiling, and without for wall times."""

    model: Model
    threads: int
    profiled: Any
    feed: Mapping[str, Array]
    walls: list[float] = field(default_factory=list)  # ms

    @staticmethod
    def of(model: Model, threads: int, batch: int, profile: Path, inputs: Inputs | None = None) -> Session:
        """Open the model, to run on `inputs` or on noise."""
        told = session(model, threads=threads, profile=profile)
        return Session(model, threads, told, feed_of(told, inputs or noise(told, batch, 0)))

    @cached_property
    def plain(self) -> Any:
        """Open the session without profiling."""
        return session(self.model, threads=self.threads)

    def tell(self) -> None:
        """Run once with profiling."""
        self.profiled.run(None, self.feed)

    def run(self) -> None:
        """Run with and without profiling. An uncounted run before each fills the caches, as in a race."""
        self.tell()
        self.tell()
        self.walls.append(timed(partial(whole, self.plain, self.feed))[WALL])

    @property
    def wall_ms(self) -> float:
        """Return the wall time of a run without profiling, in ms."""
        return middle_mean(self.walls[WARM_UP:])

    def entries(self) -> Entries:
        """Return the profile entries of counted runs; no run can follow."""
        told = in_order(read(Path(self.profiled.end_profiling())))
        if not self.walls:
            return told
        each = len(told) // (2 * len(self.walls))
        return [one for place, one in enumerate(told) if place // each % 2]


@dataclass(frozen=True)
class Profiled:
    """Sessions that run in turn, and two of small layers."""

    sessions: list[Session]
    probes: tuple[Session, Session]

    def tell(self) -> None:
        """Run all sessions with profiling."""
        for one in self.sessions:
            one.tell()
        for one in self.probes:
            one.run()

    def run(self) -> None:
        """Run all sessions with profiling, and without."""
        for one in (*self.sessions, *self.probes):
            one.run()

    def excess_ms(self) -> float:
        """Compute the ms that profiling adds to a kernel; no run can follow."""
        long, short = (
            (kernels(one.entries(), network_of(_chain(layers))), one.wall_ms)
            for one, layers in zip(self.probes, (LONG, SHORT), strict=True)
        )
        return max(added_ms(long, short), 0.0)


@contextmanager
def profiled(models: Sequence[Model], threads: int, batch: int, inputs: Inputs | None = None) -> Iterator[Profiled]:
    """Open the models and the small layers."""
    with TemporaryDirectory() as folder, denormals_as_zero():
        opened = [
            Session.of(model, threads, batch, Path(folder) / str(place), inputs) for place, model in enumerate(models)
        ]
        long, short = (Session.of(_chain(count), threads, 1, Path(folder) / f"chain{count}") for count in (LONG, SHORT))
        yield Profiled(opened, (long, short))


def kernel_ms(told_ms: float, excess_ms: float) -> float:
    """Return the time of a kernel in ms without the overhead of profiling."""
    return max(told_ms - excess_ms, LEAST * told_ms)


def added_ms(more: Ran, fewer: Ran) -> float:
    """Compute the ms that profiling adds to a kernel from two models' runs. The first has more kernels."""
    over = [sum(kernel.ms for kernel in ran) - wall for ran, wall in (more, fewer)]
    return (over[0] - over[1]) / max(len(more[0]) - len(fewer[0]), 1)


@cache
def _chain(count: int) -> onnx.ModelProto:
    """Build a chain of `count` convolutions."""
    kernel = np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS, 1, TAPS)) / (CHANNELS * TAPS) ** 0.5
    weight = numpy_helper.from_array(kernel.astype(np.float32), "weight")
    nodes = [
        helper.make_node("Conv", [f"x{place}", "weight"], [f"x{place + 1}"], f"layer{place}", pads=[0, 1, 0, 1])
        for place in range(count)
    ]
    sides = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE])
        for name in ("x0", f"x{count}")
    ]
    graph = helper.make_graph(nodes, "chain", sides[:1], sides[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
