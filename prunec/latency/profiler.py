"""The kernels of models in ONNX Runtime, as it profiles them, less what profiling adds to the time of each:

    p = [ (kernels - wall) of 64 small layers  -  (kernels - wall) of 16 ] / 48

where `wall` is a run of the same layers without profiling. Measured on two virtual cores with AVX-512: 3 µs with one
thread, 8 µs with two, on kernels of 10 µs, and twice that where others use the cores; five networks of 83 to 111
kernels say the same to 0.4 µs. What it is changes from minute to minute, so the small layers run among the models.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from ..compare.profiles import Kernel, in_order, kernels, read
from ..deploy.benchmark.inputs import noise
from ..deploy.benchmark.statistics import middle_mean
from ..deploy.onnx.layers import network_of
from ..deploy.ort.runtime import Array, Model, denormals_as_zero, feed_of, session
from .layer_models import IR, OPSET

LONG, SHORT = 64, 16  # layers
CHANNELS, SIZE, TAPS = 16, 8, 3
WARM_UP = 3
LEAST = 0.1  # of a kernel's time that is left of it
Entries = list[Mapping[str, Any]]
Inputs = Sequence[Tensor | Array]
Ran = tuple[Sequence[Kernel], float]  # the kernels of a model, and the wall time of a run without profiling


@dataclass(frozen=True)
class Session:
    """A model with its kernels timed, and without, in which only the run is."""

    model: Model
    threads: int
    profiled: Any
    feed: Mapping[str, Array]
    walls: list[float] = field(default_factory=list)  # ms

    @staticmethod
    def of(model: Model, threads: int, batch: int, profile: Path, inputs: Inputs | None = None) -> Session:
        """Open it, to be run on `inputs` or on noise."""
        told = session(model, threads=threads, profile=profile)
        return Session(model, threads, told, feed_of(told, inputs or noise(told, batch, 0)))

    @cached_property
    def plain(self) -> Any:
        """Without profiling; opened where wall times are wanted."""
        return session(self.model, threads=self.threads)

    def tell(self) -> None:
        """Run it once with its kernels timed."""
        self.profiled.run(None, self.feed)

    def run(self) -> None:
        """Run it with its kernels timed and without, each after an uncounted run of its own.

        As in a race, the caches then hold its own data and not that of another model.
        """
        self.tell()
        self.tell()
        self.plain.run(None, self.feed)
        started = time.perf_counter()
        self.plain.run(None, self.feed)
        self.walls.append((time.perf_counter() - started) * 1e3)

    @property
    def wall_ms(self) -> float:
        """Return the wall time of a run without profiling, in ms."""
        return middle_mean(self.walls[WARM_UP:])

    def entries(self) -> Entries:
        """List the profile's entries for each kernel in the runs that count; no run can follow."""
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
        """Run all of them with their kernels timed."""
        for one in self.sessions:
            one.tell()
        for one in self.probes:
            one.run()

    def run(self) -> None:
        """Run all of them with their kernels timed, and without."""
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
    """The time of a kernel without what profiling added."""
    return max(told_ms - excess_ms, LEAST * told_ms)


def added_ms(more: Ran, fewer: Ran) -> float:
    """Compute the ms that profiling adds to a kernel, so that two models add up; the first has more kernels."""
    over = [sum(kernel.ms for kernel in ran) - wall for ran, wall in (more, fewer)]
    return (over[0] - over[1]) / max(len(more[0]) - len(fewer[0]), 1)


@cache
def _chain(count: int) -> onnx.ModelProto:
    """Convolutions one after the other."""
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
