"""Compare the speed of two ONNX models with confidence intervals.

    speedup = median over pairs of  time(A) / time(B)        95% interval by bootstrap over the pairs

Both run in one process in ABBA blocks, so that load, heat and caches affect both alike. Each is opened three times,
since memory placement changes the time of a session; one session of A against the others gives the noise floor: how far
that interval reaches from 1. `sweep` compares several models, of any backend, at several batches and threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from ...errors import SpecError
from ...machine import environment, load_average
from ...progress import Track, silent
from ..ort.providers import nodes_by_provider
from ..ort.runtime import Array, Model, denormals_as_zero, session
from .inputs import first_of, noise
from .metrics import summary
from .onnx_sessions import bound
from .sampling import WALL, race, until
from .statistics import OPENINGS, Speedup, Times, grouped, noise_floor, paired_speedup, spread, undisturbed

__all__ = ["Comparison", "Speedup", "compare", "noise", "paired_speedup", "summary"]


@dataclass(frozen=True)
class Comparison:
    """Paired times in ms of two models; all else is derived.

    Samples of `openings` sessions of each in turn; `control_*` are one session of A and the mean of its others.
    """

    a_ms: Times
    b_ms: Times
    control_a_ms: Times
    control_b_ms: Times
    batch: int = 1
    threads: int = 1
    seed: int = 0
    environment: Mapping[str, Any] = field(default_factory=dict)
    openings: int = 1

    @cached_property
    def speedup(self) -> Speedup:
        """Return the speedup of B over A."""
        return paired_speedup(*self._pairs, self.seed)

    @cached_property
    def undisturbed(self) -> Speedup:
        """Return the speedup over the pairs timed while the machine was quickest."""
        return undisturbed(*self._pairs, self.seed)

    @property
    def _pairs(self) -> tuple[Times, Times]:
        return grouped(self.a_ms, self.openings), grouped(self.b_ms, self.openings)

    @cached_property
    def control(self) -> Speedup:
        """Return the speedup of A over itself."""
        return paired_speedup(self.control_a_ms, self.control_b_ms, self.seed)

    @property
    def noise_floor(self) -> float:
        """Return the least credible effect, as a share."""
        return noise_floor(self.control)

    @property
    def verdict(self) -> str:
        """Return `B is 1.43x faster (1.40..1.46)`, or slower, or no difference."""
        return self.speedup.verdict(self.noise_floor)

    def to_json(self) -> dict[str, Any]:
        """Return all results with raw samples, in finite numbers."""
        return {
            "verdict": self.verdict,
            "speedup": asdict(self.speedup),
            "undisturbed": asdict(self.undisturbed),
            "noise_floor": self.noise_floor,
            "control": asdict(self.control),
            "a": summary(self.a_ms),
            "b": summary(self.b_ms),
            "batch": self.batch,
            "threads": self.threads,
            "seed": self.seed,
            "openings": self.openings,
            "environment": dict(self.environment),
            "samples_ms": {name: list(getattr(self, f"{name}_ms")) for name in ("a", "b", "control_a", "control_b")},
        }


def compare(
    a: Model,
    b: Model,
    *,
    batch: int = 1,
    threads: int = 1,
    seconds: float = 2.0,
    min_pairs: int = 20,
    inputs: tuple[Tensor | Array, ...] | None = None,
    seed: int = 0,
    provider: str = "cpu",
    track: Track = silent,
) -> Comparison:
    """Time three sessions of A and three of B in turn, after a warm-up.

    Runs take twice `seconds` and at least `min_pairs` pairs. `inputs` are batch first; their first `batch` samples are
    used, by default seeded normal noise of the shapes that A declares. Raises SpecError for undeclared shapes or too
    few inputs, DataError if inputs do not fit a model, BackendError if a model does not load or the provider does not
    run it.
    """
    if batch < 1 or min_pairs < 2 or not 0 <= seconds < math.inf:
        raise SpecError(f"cannot time batch {batch} for {seconds} s and {min_pairs} pairs; the least are 1, 0 s and 2")
    sessions = [session(model, threads=threads, provider=provider) for model in (a, b, b, a, a, b)]
    samples = noise(sessions[0], batch, seed) if inputs is None else first_of(inputs, batch)
    runs = [bound(opened, samples) for opened in sessions]
    facts, blocks = environment(), math.ceil(min_pairs / 2)
    with denormals_as_zero():
        times = [one[WALL] for one in race(runs, track(until(2 * seconds, blocks), "timing A and B in turn"))]
    facts |= {"load_average_after": load_average(), "provider": provider}
    facts["nodes_by_provider"] = {
        side: nodes_by_provider(opened) for side, opened in zip("ab", sessions[:2], strict=True)
    }
    of_a, of_b = [times[place] for place in (0, 3, 4)], [times[place] for place in (1, 2, 5)]
    control = of_a[0], grouped(spread(of_a[1:]), OPENINGS - 1)
    return Comparison(spread(of_a), spread(of_b), *control, batch, threads, seed, facts, OPENINGS)
