"""Record the times of models that ran in turn, and compare them.

    speedup = median over pairs of  time(A) / time(B)        95% interval by bootstrap over the pairs

One session of A against its others gives the noise floor: how far that interval reaches from 1. The JSON that
`document` returns is described in docs/benchmark.schema.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .metrics import cautions, compared, metrics, summary
from .sampling import Samples
from .statistics import Floats, Speedup, noise_floor, paired_speedup, undisturbed

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Point:
    """Times of all models at one batch and number of threads.

    The first model is A. `samples` are of the `openings` of each model in turn.
    """

    batch: int
    threads: int
    names: tuple[str, ...]
    samples: tuple[Samples, ...]
    facts: tuple[Mapping[str, Any], ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    openings: int = 1

    @property
    def compared_by(self) -> str:
        """Return `computeMs` if all models have it, else `wallMs`."""
        return compared(self.samples)

    @cached_property
    def noise(self) -> Speedup:
        """Return the speedup of A over itself: one opening, or each second run, against the rest."""
        first, *others = self._rows(0, max(self.openings, 2)).T
        return paired_speedup(first, np.mean(others, axis=0), self.seed)

    @property
    def noise_floor(self) -> float:
        """Return the least credible effect, as a share."""
        return noise_floor(self.noise)

    @cached_property
    def speedups(self) -> tuple[Speedup, ...]:
        """Return the speedup of each other model over A."""
        return tuple(paired_speedup(*pair, self.seed) for pair in self._pairs)

    @cached_property
    def undisturbed(self) -> tuple[Speedup, ...]:
        """Return these speedups while the machine was quickest."""
        return tuple(undisturbed(*pair, self.seed) for pair in self._pairs)

    @property
    def _pairs(self) -> list[tuple[Floats, Floats]]:
        """Return the times of A and of each other model, means over the openings."""
        first, *others = (self._rows(place, self.openings).mean(1) for place in range(len(self.samples)))
        return [(first, other) for other in others]

    def _rows(self, place: int, width: int) -> Floats:
        return np.asarray(self.samples[place][self.compared_by]).reshape(-1, width)

    def verdict(self, place: int = 1) -> str:
        """Return the verdict on the model at `place`, 1 for B: `B is 1.43x faster (1.40..1.46)`, or slower."""
        return self.speedups[place - 1].verdict(self.noise_floor, LETTERS[place])

    def misses(self, gate: float) -> list[str]:
        """Return a sentence for each model not shown to reach `gate` times A's speed."""
        return [
            f"{LETTERS[place]} has {it.ratio:.2f}x the speed of A ({it.low:.2f}..{it.high:.2f}, and"
            f" {self.noise_floor:.1%} is noise) at batch {self.batch}, threads {self.threads}"
            for place, it in enumerate(self.speedups, 1)
            if not it.passes(gate, self.noise_floor)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return all results with raw samples, in finite numbers."""
        own = [f"{LETTERS[place]}: {one}" for place, each in enumerate(self.samples) for one in cautions(each)]
        return {
            "batch": self.batch,
            "threads": self.threads,
            "compared_by": self.compared_by,
            "openings": self.openings,
            "noise": {**asdict(self.noise), "floor": self.noise_floor},
            "models": [self._model(place) for place in range(len(self.names))],
            "cautions": [*own, *self.environment.get("cautions", ())],
            "environment": dict(self.environment),
        }

    def _model(self, place: int) -> dict[str, Any]:
        samples = self.samples[place]
        found = {
            "letter": LETTERS[place],
            "name": self.names[place],
            **summary(samples[self.compared_by]),
            "metrics": metrics(samples, self.batch),
            "ran_with": dict(self.facts[place]),
            "samples": {name: list(times) for name, times in samples.items()},
        }
        if place:
            found |= {"speedup": asdict(self.speedups[place - 1]), "verdict": self.verdict(place)}
            found["undisturbed"] = asdict(self.undisturbed[place - 1])
        return found


def document(
    models: Sequence[str],
    points: Sequence[Point],
    gate: float | None = None,
    layers: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the object that is written of an experiment, by docs/benchmark.schema.json.

    `gate` is the speedup that all models are asked for; `layers` are the layer profiles of `prunec bench --profile`.
    """
    found: dict[str, Any] = {
        "models": list(models),
        "seed": points[0].seed,
        "points": [one.to_json() for one in points],
    }
    if gate is not None:
        found["gate"] = {"least": gate, "missed": [text for one in points for text in one.misses(gate)]}
    return {**found, "layers": list(layers)} if layers else found
