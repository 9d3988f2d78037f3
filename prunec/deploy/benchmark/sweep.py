"""Race several models at several batches and thread counts.

Each point opens its models anew, three times: threads belong to a session, and shapes to compiled code.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
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
from .metrics import cautions, compared, metrics, summary
from .sampling import WARM_UP_SECONDS, Samples, race, until
from .statistics import OPENINGS, Speedup, Times, grouped, noise_floor, paired_speedup, spread, undisturbed

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
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


@dataclass(frozen=True)
class Point:
    """Measurements at one batch and number of threads; the first model is A.

    `samples` are of the `openings` of each model in turn; `control` is one opening of A and the mean of its others.
    """

    batch: int
    threads: int
    names: tuple[str, ...]
    samples: tuple[Samples, ...]
    control: tuple[Samples, ...]
    facts: tuple[Mapping[str, Any], ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    openings: int = 1

    @property
    def compared_by(self) -> str:
        """Return `computeMs` if all models have it, else `wallMs`."""
        return compared([*self.samples, *self.control])

    @cached_property
    def noise(self) -> Speedup:
        """Return the speedup of A over itself."""
        first, second = (each[self.compared_by] for each in self.control)
        return paired_speedup(first, second, self.seed)

    @property
    def noise_floor(self) -> float:
        """Return the least credible effect, as a share."""
        return noise_floor(self.noise)

    @cached_property
    def speedups(self) -> tuple[Speedup, ...]:
        """Return the speedup of each other model over A."""
        first, *others = self._grouped
        return tuple(paired_speedup(first, other, self.seed) for other in others)

    @cached_property
    def undisturbed(self) -> tuple[Speedup, ...]:
        """Return these speedups while the machine was quickest."""
        first, *others = self._grouped
        return tuple(undisturbed(first, other, self.seed) for other in others)

    @property
    def _grouped(self) -> list[Times]:
        return [grouped(each[self.compared_by], self.openings) for each in self.samples]

    def verdict(self, place: int) -> str:
        """Return the verdict on the model at `place`, 1 for B."""
        return self.speedups[place - 1].verdict(self.noise_floor, LETTERS[place])

    def misses(self, gate: float) -> list[str]:
        """Return a sentence for each model not shown to reach `gate` times A's speed."""
        return [
            f"{LETTERS[place]} has {it.ratio:.2f}x the speed of A ({it.low:.2f}..{it.high:.2f}, and"
            f" {self.noise_floor:.1%} is noise) at batch {self.batch}, threads {self.threads}"
            for place, it in enumerate(self.speedups, 1)
            if not it.passes(gate, self.noise_floor)
        ]

    def cautions(self) -> list[str]:
        """Return reasons why the times may be wrong."""
        own = [f"{LETTERS[place]}: {one}" for place, each in enumerate(self.samples) for one in cautions(each)]
        return own + list(self.environment.get("cautions", ()))

    def to_json(self) -> dict[str, Any]:
        """Return all results with raw samples, in finite numbers."""
        return {
            "batch": self.batch,
            "threads": self.threads,
            "compared_by": self.compared_by,
            "openings": self.openings,
            "noise": {**asdict(self.noise), "floor": self.noise_floor},
            "models": [self._model(place) for place in range(len(self.names))],
            "cautions": self.cautions(),
            "environment": dict(self.environment),
            "control_samples": [_listed(each) for each in self.control],
        }

    def _model(self, place: int) -> dict[str, Any]:
        samples = self.samples[place]
        found: dict[str, Any] = {
            "letter": LETTERS[place],
            "name": self.names[place],
            **summary(samples[self.compared_by]),
        }
        found |= {
            "metrics": metrics(samples, self.batch),
            "ran_with": dict(self.facts[place]),
            "samples": _listed(samples),
        }
        if place:
            found |= {"speedup": asdict(self.speedups[place - 1]), "verdict": self.verdict(place)}
            found["undisturbed"] = asdict(self.undisturbed[place - 1])
        return found


def measure(
    entries: Sequence[Entry],
    sweep: Sweep,
    *,
    setup: Setup | None = None,
    inputs: tuple[Tensor | Array, ...] | None = None,
    track: Track = silent,
) -> Iterator[Point]:
    """Time every entry at every point of the sweep; `setup.threads` is replaced.

    `inputs` are batch first, for all models; by default seeded noise of the first declared shapes. Raises SpecError for
    undeclared shapes or too few inputs, DataError if they do not fit a model, BackendError or CaptureError if one does
    not load or run as asked.
    """
    if not 1 <= len(entries) <= len(LETTERS):
        raise SpecError(f"{len(entries)} models cannot be timed together: give 1 to {len(LETTERS)}")
    pin = "none" if sweep.pin == "auto" and _on_gpu(entries) else sweep.pin
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
    samples = _noise(opened, batch, sweep.seed) if inputs is None else first_of(inputs, batch)
    runs = [each.bind(samples) for each in track(opened, "running each once")]
    facts, blocks = _environment(entries), math.ceil(sweep.iterations / 2)
    where = f"batch {batch}, {setup.threads} thread{'' if setup.threads == 1 else 's'}"
    with denormals_as_zero():
        taken = race(runs, track(until(2 * sweep.seconds, blocks), f"all in turn, {where}"), sweep.warm_up)
    _close(facts)
    groups = [[taken[place], taken[2 * count - 1 - place], taken[2 * count + place]] for place in range(count)]
    first, *others = groups[0]
    control = first, _merged(others, lambda times: grouped(spread(times), OPENINGS - 1))
    found = tuple(_merged(each, spread) for each in groups)
    ran, names = tuple(each.facts for each in opened[:count]), tuple(entry.name for entry in entries)
    return Point(batch, setup.threads, names, found, control, ran, facts, sweep.seed, OPENINGS)


def _merged(openings: Sequence[Samples], how: Callable[[list[Times]], Times]) -> Samples:
    """Merge several records, each quantity by itself."""
    return {name: how([one[name] for one in openings]) for name in openings[0]}


def _noise(opened: Sequence[Opened], batch: int, seed: int) -> Arrays:
    """Return seeded noise of the first declared shapes."""
    known = next((each.takes for each in opened[1:] if each.takes is not None), None)
    if known is None:
        raise SpecError("no model says what it takes: give --input-shape, for instance 3x224x224")
    return known.noise(batch, seed)


def _environment(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the state of the machine before the runs."""
    facts = environment() | {"omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "")}
    return facts | ({"gpu": {"before": gpu_state()}} if _on_gpu(entries) else {})


def _on_gpu(entries: Sequence[Entry]) -> bool:
    """Return whether any entry runs on an NVIDIA GPU; its threads are not pinned."""
    return any(one.provider in ("cuda", "tensorrt", "rtx") or one.backend.startswith("tensorrt") for one in entries)


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


def _listed(samples: Samples) -> dict[str, list[float]]:
    return {name: list(times) for name, times in samples.items()}


@contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """Restore PyTorch's process-wide number of threads after the block."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
