"""Which of two ONNX models is faster, and by how much more than nothing.

    speedup = median over pairs of  time(A) / time(B)        95% interval by bootstrap over the pairs

The two run in one process in ABBA blocks, so that load, heat and caches meet both alike. Two sessions of the *same*
model A go first: how far their interval reaches from 1 is the noise floor. Measured on a busy 2-core machine, ResNet-56
against itself: one after the other, the ratio of medians is wrong by up to 64%; the median of paired ratios by 4.9%.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..errors import SpecError
from ..progress import Track, silent
from .providers import nodes_by_provider
from .runtime import Array, Model, denormals_as_zero, environment, feed_of, load_average, run, session, signature

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

MIN_EFFECT = 0.02  # two sessions of one model differ by this much through memory placement alone
RESAMPLES = 1000
WARM_UP_SECONDS, WARM_UP_BLOCKS = 0.2, 2
DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}

Run = Callable[[], object]
Times = tuple[float, ...]


@dataclass(frozen=True)
class Speedup:
    """A ratio of times, first over second, and its 95% interval."""

    ratio: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """How far the interval reaches from 1, in either direction: 0.05 for 0.98..1.05, and for its reciprocal."""
        return max(self.high, 1 / self.low) - 1


@dataclass(frozen=True)
class Comparison:
    """Raw paired times in milliseconds; all else follows from them. `control_*` are two sessions of A."""

    a_ms: Times
    b_ms: Times
    control_a_ms: Times
    control_b_ms: Times
    batch: int = 1
    threads: int = 1
    seed: int = 0
    environment: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def speedup(self) -> Speedup:
        """How many times faster B is than A."""
        return paired_speedup(self.a_ms, self.b_ms, self.seed)

    @cached_property
    def control(self) -> Speedup:
        """A against itself."""
        return paired_speedup(self.control_a_ms, self.control_b_ms, self.seed)

    @property
    def noise_floor(self) -> float:
        """The least effect that is believed, as a share: the reach of A against A, `MIN_EFFECT` at least."""
        return max(self.control.reach, MIN_EFFECT)

    @property
    def verdict(self) -> str:
        """`B is 1.43x faster (1.40..1.46)`, or slower, or that the interval does not clear the noise floor."""
        it, floor = self.speedup, 1 + self.noise_floor
        if it.low > floor:
            return f"B is {it.ratio:.2f}x faster ({it.low:.2f}..{it.high:.2f})"
        if it.high < 1 / floor:
            return f"B is {1 / it.ratio:.2f}x slower ({1 / it.high:.2f}..{1 / it.low:.2f})"
        return "no difference above the noise floor"

    def to_json(self) -> dict[str, Any]:
        """Everything, raw samples included; finite numbers only."""
        return {
            "verdict": self.verdict,
            "speedup": asdict(self.speedup),
            "noise_floor": self.noise_floor,
            "control": asdict(self.control),
            "a": summary(self.a_ms),
            "b": summary(self.b_ms),
            "batch": self.batch,
            "threads": self.threads,
            "seed": self.seed,
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
    """Time A against A, then A against B, for `seconds` each and `min_pairs` pairs at least, after a warm-up.

    `inputs` are batch first, their first `batch` samples are used; without them both get seeded normal noise of the
    shapes that A declares. Raises SpecError for shapes that only `inputs` can settle or too few of those, DataError
    where what one model takes does not fit the other, BackendError where a model does not load or the provider does not
    run it.
    """
    if batch < 1 or min_pairs < 2 or not 0 <= seconds < math.inf:
        raise SpecError(f"cannot time batch {batch} for {seconds} s and {min_pairs} pairs; the least are 1, 0 s and 2")
    sessions = [session(model, threads=threads, provider=provider) for model in (a, a, b)]
    samples = noise(sessions[0], batch, seed) if inputs is None else tuple(given[:batch] for given in inputs)
    if any(len(given) != batch for given in samples):
        raise SpecError(f"batch {batch} needs that many images in each input; give more, or ask for a smaller batch")
    first, second, other = (_bound(opened, samples) for opened in sessions)
    facts, blocks = environment(), math.ceil(min_pairs / 2)
    with denormals_as_zero():
        control_a, control_b = _race(first, second, track(_until(seconds, blocks), "timing A against A"))
        a_ms, b_ms = _race(first, other, track(_until(seconds, blocks), "timing A against B"))
    facts |= {"load_average_after": load_average(), "provider": provider}
    facts["nodes_by_provider"] = {
        side: nodes_by_provider(opened) for side, opened in zip("ab", sessions[1:], strict=True)
    }
    return Comparison(a_ms, b_ms, control_a, control_b, batch, threads, seed, facts)


def paired_speedup(a_ms: Times, b_ms: Times, seed: int = 0) -> Speedup:
    """The median of a/b over pairs, with a percentile bootstrap interval (Efron 1979); the same for the same seed."""
    ratios = np.asarray(a_ms) / np.asarray(b_ms)
    generator = np.random.default_rng(seed)
    medians = [np.median(generator.choice(ratios, len(ratios))) for _ in range(RESAMPLES)]
    low, high = np.percentile(medians, (2.5, 97.5))
    return Speedup(float(np.median(ratios)), float(low), float(high))


def summary(samples_ms: Times) -> dict[str, float]:
    """Half and nine tenths of the runs were at most this long, in milliseconds."""
    p50, p90 = np.percentile(samples_ms, (50, 90))
    return {"p50_ms": float(p50), "p90_ms": float(p90), "runs": len(samples_ms)}


def _bound(session: InferenceSession, samples: tuple[Tensor | Array, ...]) -> Run:
    """A call that runs the session on `samples` and nothing else. Raises DataError where they do not fit."""
    run(session, samples)
    return partial(session.run, None, feed_of(session, samples))


def _race(first: Run, second: Run, blocks: Iterable[int]) -> tuple[Times, Times]:
    """Paired times in ms, two pairs a block, ABBA and BAAB in turn; the clock of `blocks` starts after the warm-up.

    Always ABBA favours B: a 50 µs model seemed 0.5% faster than itself, in turn 0.3%.
    """
    for _ in _until(WARM_UP_SECONDS, WARM_UP_BLOCKS):
        _time(first), _time(second)
    firsts: list[float] = []
    others: list[float] = []
    sides = (first, firsts), (second, others)
    for block in blocks:
        near, far = sides[block % 2], sides[1 - block % 2]
        for call, taken in (near, far, far, near):
            taken.append(_time(call))
    return tuple(firsts), tuple(others)


def _time(call: Run) -> float:
    """One run, in milliseconds."""
    start = time.perf_counter_ns()
    call()
    return max(time.perf_counter_ns() - start, 1) / 1e6


def _until(seconds: float, blocks: int) -> Iterator[int]:
    """Count until both the time and the number have passed."""
    end, done = time.perf_counter() + seconds, 0
    while done < blocks or time.perf_counter() < end:
        yield done
        done += 1


def noise(session: InferenceSession, batch: int, seed: int) -> tuple[Array, ...]:
    """Normal noise of the shapes that the model declares, with `batch` first."""
    generator = np.random.default_rng(seed)
    arrays = []
    for entry in session.get_inputs():
        first, *rest = entry.shape or [None]
        if entry.type not in DTYPES or not all(isinstance(size, int) for size in rest):
            raise SpecError(
                f"{signature(session)}: noise needs floats and fixed sizes; give inputs=(images, …) instead"
            )
        if isinstance(first, int) and first != batch:
            raise SpecError(f"{signature(session)}: its batch is fixed, so ask for batch {first}")
        arrays.append(generator.standard_normal((batch, *rest)).astype(DTYPES[entry.type]))
    return tuple(arrays)
