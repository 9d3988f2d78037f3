"""Time engines of TensorRT and TensorRT-RTX on the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..tensorrt import store
from ..tensorrt.runner import Runner, open_engine
from ..tensorrt.verification import covered
from .contestant import Entry, Opened, Setup
from .gpu_stages import StagedRun, captured
from .inputs import Arrays, Takes
from .sampling import Run


def open_model(entry: Entry, setup: Setup) -> Opened:
    """Load an engine. Raises BackendError if it, its package or its GPU is missing."""
    engine = store.load(Path(entry.source))
    return opened(engine, open_engine(engine, cuda_graph=setup.cuda_graph), setup)


def opened(engine: store.Engine, runner: Runner, setup: Setup) -> Opened:
    """Return an engine in the GPU's memory."""
    facts = {
        "package": engine.package,
        "gpu": runner.device_name,
        "load_seconds": runner.load_seconds,  # with RTX, kernels are compiled then
        "transfers": setup.transfers,
        "cuda_graph": setup.cuda_graph,
        "spin_wait": setup.spin,
    }
    return Opened(takes(engine.record["inputs"], runner.inputs), facts, partial(_bind, engine, runner, setup))


def _bind(engine: store.Engine, runner: Runner, setup: Setup, inputs: Arrays) -> Run:
    """Return a run on `inputs`. Raises BackendError for an unsupported batch, DataError for other misfits."""
    covered(engine, [len(inputs[0])])
    held = [torch.from_numpy(each) for each in inputs]
    feed = runner.resident(dict(zip(runner.inputs, held, strict=True)))
    enqueue, outputs = runner.bound(feed)
    results = list(outputs.values())

    def start() -> Sequence[Tensor]:
        enqueue()
        return results

    call = captured(start, runner.stream) if setup.cuda_graph and not runner.captures else start
    return StagedRun(call, list(feed.values()), runner.stream, setup.transfers, setup.spin)


def takes(record: Mapping[str, Any], order: Sequence[str]) -> Takes:
    """Return an engine's inputs from its record, in its own order."""
    entries = [record[name] for name in order]
    listed = ", ".join(f"{name} {one['type']}{one['shape']}" for name, one in zip(order, entries, strict=True))
    sizes = tuple(
        tuple(size if isinstance(size, int) and size > 0 else None for size in one["shape"]) for one in entries
    )
    types = tuple("float32" if "float" in one["type"] else None for one in entries)
    return Takes(f"the engine takes {listed}", sizes, types)
