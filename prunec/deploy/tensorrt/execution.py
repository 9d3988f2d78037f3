"""Run an engine on this GPU; return its outputs and times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.noise import noise_of
from ...errors import DataError, SpecError
from ...progress import Track, silent
from .runner import open_engine
from .store import Engine, load
from .verification import covered

Outputs = dict[str, Tensor]


def run(
    path: Path,
    inputs: tuple[Tensor, ...] | None = None,
    *,
    batch: int | None = None,
    seconds: float = 2.0,
    track: Track = silent,
) -> tuple[Outputs, tuple[float, ...], dict[str, Any]]:
    """Return outputs for the first `batch` samples, run times in ms, and their conditions.

    `inputs` [N, …] are in the engine's order, by default seeded noise. Raises BackendError if the engine cannot run
    here or does not take the batch, DataError if the inputs do not fit, SpecError if noise would not.
    """
    engine = load(path)
    size = _batch(engine) if batch is None else batch
    covered(engine, [size])
    runner = open_engine(engine)
    given = _noise(engine, runner.inputs, size) if inputs is None else tuple(each[:size] for each in inputs)
    if len(given) != len(runner.inputs) or any(len(each) != size for each in given):
        raise DataError(f"the engine takes {len(runner.inputs)} inputs of {size} samples each: give as many")
    feed = dict(zip(runner.inputs, given, strict=True))
    outputs = runner(feed)
    (times,) = (runner.times_ms(feed, seconds) for _ in track(range(1), "timing"))
    facts = {"batch": size, "gpu": runner.device_name, "load_seconds": runner.load_seconds}
    return outputs, times, {**facts, "engine": engine.package, "torch": torch.__version__}


def _batch(engine: Engine) -> int:
    """Return the batch that the engine is optimised for, or its only one."""
    if engine.profile is not None:
        return engine.profile.best
    return int(next(iter(engine.record["inputs"].values()))["shape"][0])


def _noise(engine: Engine, names: tuple[str, ...], batch: int) -> tuple[Tensor, ...]:
    """Return seeded normal noise in the engine's order."""
    generator = torch.Generator().manual_seed(0)
    entries = [engine.record["inputs"][name] for name in names]
    if any("float" not in entry["type"] for entry in entries):
        raise SpecError("the engine takes more than floating point, which noise does not fit: give --data")
    return tuple(noise_of(entry["shape"][1:], torch.float32, batch, generator=generator) for entry in entries)
