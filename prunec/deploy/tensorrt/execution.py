"""Run an engine on this GPU; return its outputs and times."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...errors import DataError
from ...machine import environment
from ...progress import Track, silent
from ..benchmark.contestant import Setup
from ..benchmark.engine_runs import opened, takes
from ..benchmark.point import Point
from ..benchmark.sampling import race, until
from .runner import open_engine
from .store import Engine, load
from .verification import covered

Outputs = dict[str, Tensor]
BLOCKS = 10  # of two runs, at least


def run(
    path: Path,
    inputs: tuple[Tensor, ...] | None = None,
    *,
    batch: int | None = None,
    seconds: float = 2.0,
    track: Track = silent,
) -> tuple[Outputs, Point]:
    """Return outputs for the first `batch` samples, and times without transfers.

    `inputs` [N, …] are in the engine's order, by default seeded noise. Raises BackendError if the engine cannot run
    here or does not take the batch, DataError if the inputs do not fit, SpecError if noise would not.
    """
    engine = load(path)
    size = _batch(engine) if batch is None else batch
    covered(engine, [size])
    runner = open_engine(engine)
    noise = takes(engine.record["inputs"], runner.inputs).noise
    given = noise(size, 0) if inputs is None else tuple(each[:size].numpy() for each in inputs)
    if len(given) != len(runner.inputs) or any(len(each) != size for each in given):
        raise DataError(f"the engine takes {len(runner.inputs)} inputs of {size} samples each: give as many")
    outputs = runner(dict(zip(runner.inputs, map(torch.from_numpy, given), strict=True)))
    it = opened(engine, runner, Setup(transfers=False))
    taken = race([it.bind(given)], track(until(seconds, BLOCKS), "timing"))
    return outputs, Point(size, 1, (str(path),), taken, (it.facts,), environment())


def _batch(engine: Engine) -> int:
    """Return the batch that the engine is optimised for, or its only one."""
    if engine.profile is not None:
        return engine.profile.best
    return int(next(iter(engine.record["inputs"].values()))["shape"][0])
