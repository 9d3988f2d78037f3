"""Race several models at several batches and thread counts.

Two models at one point are a comparison. All run in one process, in turn, so that load, heat and caches affect them
alike. Each point opens its models anew, since threads belong to a session and shapes to compiled code, and three times,
since memory placement changes the time of a session.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...errors import SpecError
from ...machine import environment, load_average
from ...progress import Track, silent
from ..ort.runtime import Array, denormals_as_zero
from . import cores
from .contestant import Entry, Opened, Setup
from .gpu_state import gpu_state, throttled
from .inputs import Arrays, first_of
from .point import LETTERS, Point
from .sampling import WARM_UP_SECONDS, race, until
from .statistics import OPENINGS, spread

FEWEST = 20  # runs of each


@dataclass(frozen=True)
class Sweep:
    """Points of a benchmark to time, and the time for each."""

    batches: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = (1,)
    seconds: float = 2.0
    """Half of a point's time, for all models together."""
    iterations: int = FEWEST
    """Least number of runs of each model."""
    warm_up: float = WARM_UP_SECONDS
    seed: int = 0
    pin: str = "none"
    """Cores, as parsed by `cores.parse`."""

    def __post_init__(self) -> None:
        """Raise SpecError for settings that cannot be timed."""
        if not self.batches or not self.threads or min(*self.batches, *self.threads, 1) < 1:
            raise SpecError("a batch, or a number of threads, below 1 cannot be timed: ask for 1 or more of each")
        if self.iterations < 2 or not 0 <= self.seconds < math.inf or not 0 <= self.warm_up < math.inf:
            raise SpecError(
                f"cannot time for {self.seconds} s, {self.iterations} runs and {self.warm_up} s of warm-up: the least"
                " are 0 s, 2 and 0 s"
            )

    @property
    def points(self) -> list[tuple[int, int]]:
        """Return every batch with every number of threads."""
        return [(batch, threads) for batch in self.batches for threads in self.threads]


def measure(
    entries: Sequence[Entry],
    sweep: Sweep,
    *,
    setup: Setup | None = None,
    inputs: tuple[Tensor | Array, ...] | None = None,
    track: Track = silent,
) -> Iterator[Point]:
    """Time every entry at every point of the sweep; `setup.threads` is replaced. On a GPU `auto` pins no threads.

    `inputs` are batch first, for all models; by default seeded noise of the first declared shapes. Raises SpecError for
    undeclared shapes or too few inputs, DataError if they do not fit a model, BackendError or CaptureError if one does
    not load or run as asked.
    """
    if not 1 <= len(entries) <= len(LETTERS):
        raise SpecError(f"{len(entries)} models cannot be timed together: give 1 to {len(LETTERS)}")
    pin = "none" if sweep.pin == "auto" and any(each.on_gpu for each in entries) else sweep.pin
    pins = {threads: cores.parse(pin, threads) for threads in sweep.threads}
    for batch, threads in sweep.points:
        with cores.pinned(pins[threads]), _torch_as_it_was():
            found = _point(entries, sweep, replace(setup or Setup(), threads=threads), batch, inputs, track)
        yield found


def _point(
    entries: Sequence[Entry],
    sweep: Sweep,
    setup: Setup,
    batch: int,
    inputs: tuple[Tensor | Array, ...] | None,
    track: Track,
) -> Point:
    count = len(entries)
    order = [*entries, *reversed(entries), *entries]  # A is not always the first in memory
    opened = [entry.open(setup) for entry in track(order, "opening the models")]
    arrays = _noise(opened, batch, sweep.seed) if inputs is None else first_of(inputs, batch)
    runs = [each.bind(arrays) for each in track(opened, "running each once")]
    facts, blocks = _environment(entries), math.ceil(sweep.iterations / 2)
    where = f"batch {batch}, {setup.threads} thread{'' if setup.threads == 1 else 's'}"
    with denormals_as_zero():
        taken = race(runs, track(until(2 * sweep.seconds, blocks), f"all in turn, {where}"), sweep.warm_up)
    _close(facts)
    samples = tuple(
        {name: spread([taken[opening][name] for opening in (place, 2 * count - 1 - place, 2 * count + place)])
         for name in taken[place]}
        for place in range(count)
    )  # fmt: skip
    ran, names = tuple(each.facts for each in opened[:count]), tuple(entry.name for entry in entries)
    return Point(batch, setup.threads, names, samples, ran, facts, sweep.seed, OPENINGS)


def _noise(opened: Sequence[Opened], batch: int, seed: int) -> Arrays:
    """Return seeded noise of the first declared shapes."""
    known = next((each.takes for each in opened if each.takes is not None), None)
    if known is None:
        raise SpecError("no model says what it takes: give --input-shape, for instance 3x224x224")
    return known.noise(batch, seed)


def _environment(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the state of the machine before the runs."""
    facts = environment() | {"omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "")}
    return facts | ({"gpu": {"before": gpu_state()}} if any(each.on_gpu for each in entries) else {})


def _close(facts: dict[str, Any]) -> None:
    """Record the state of the machine after the runs, and possible disturbances."""
    facts["load_average_after"] = load_average()
    found = []
    if (load := facts["load_average_after"]) and load[0] > (facts["cores"] or 1):
        found.append(f"the machine is busy, a load of {load[0]:.1f} on {facts['cores']} cores: times are too long")
    if "gpu" in facts:
        facts["gpu"]["after"] = gpu_state()
        found += throttled(facts["gpu"])
    facts["cautions"] = found


@contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """Restore PyTorch's process-wide number of threads after the block."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
