"""Time engines of TensorRT and TensorRT-RTX on the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class OpenedEngine(Opened):
    """Engine in the GPU's memory."""

    def __init__(self, engine: store.Engine, runner: Runner, setup: Setup) -> None:
        self._engine, self._runner, self._setup = engine, runner, setup
        self.takes = takes(engine.record["inputs"], runner.inputs)
        self.facts = {
            "package": engine.package,
            "gpu": runner.device_name,
            "load_seconds": runner.load_seconds,  # with RTX, kernels are compiled then
            "transfers": setup.transfers,
            "cuda_graph": setup.cuda_graph,
            "spin_wait": setup.spin,
        }

    def bind(self, inputs: Arrays) -> Run:
        """Return a run on `inputs`. Raises BackendError for an unsupported batch, DataError for other misfits."""
        covered(self._engine, [len(inputs[0])])
        held = [torch.from_numpy(each) for each in inputs]
        feed = self._runner.resident(dict(zip(self._runner.inputs, held, strict=True)))
        enqueue, outputs = self._runner.bound(feed)
        results = list(outputs.values())

        def start() -> Sequence[Tensor]:
            enqueue()
            return results

        by_hand = self._setup.cuda_graph and not self._runner.captures
        call = captured(start, self._runner.stream) if by_hand else start
        return StagedRun(call, list(feed.values()), self._runner.stream, self._setup.transfers, self._setup.spin)


def open_model(entry: Entry, setup: Setup) -> Opened:
    """Load an engine. Raises BackendError if it, its package or its GPU is missing."""
    engine = store.load(Path(entry.source))
    return OpenedEngine(engine, open_engine(engine, cuda_graph=setup.cuda_graph), setup)


def takes(record: Mapping[str, Any], order: Sequence[str]) -> Takes:
    """Return an engine's inputs from its record, in its own order."""
    entries = [record[name] for name in order]
    listed = ", ".join(f"{name} {one['type']}{one['shape']}" for name, one in zip(order, entries, strict=True))
    sizes = tuple(
        tuple(size if isinstance(size, int) and size > 0 else None for size in one["shape"]) for one in entries
    )
    types = tuple("float32" if "float" in one["type"] else None for one in entries)
    return Takes(f"the engine takes {listed}", sizes, types)
