"""Time a run on a GPU in three stages by CUDA events: inputs, work, outputs.

Enqueue is the host's time to submit the work. Copies use pinned memory and one stream.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .metrics import COMPUTE, D2H, ENQUEUE, H2D
from .sampling import Stages

WARM_RUNS = 3  # before a CUDA graph is captured


@dataclass
class StagedRun:
    """Timed call of `start`, which reads `inputs` on the GPU and enqueues its work."""

    start: Callable[[], Sequence[Tensor]]
    inputs: Sequence[Tensor]
    stream: Any
    transfers: bool = True
    spin: bool = True
    event: Callable[[], Any] | None = None
    """Event factory; by default CUDA events with timing, blocking unless `spin`."""
    _sources: list[Tensor] = field(init=False)
    _results: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        """Allocate host memory for inputs and outputs; this runs the model once."""
        if self.event is None:
            self.event = partial(torch.cuda.Event, enable_timing=True, blocking=not self.spin)
        with self._on_stream():
            self._sources = [_pinned(each) for each in self.inputs]
            outputs = self.start()
            if self.stream is not None:
                self.stream.synchronize()
            self._results = [_pinned(each) for each in outputs]

    def __call__(self) -> Stages:
        """Run to completion and return the stages in ms."""
        assert self.event is not None
        marks = [self.event() for _ in range(4)]
        with self._on_stream():
            marks[0].record(self.stream)
            self._copy(self.inputs, self._sources)
            marks[1].record(self.stream)
            began = time.perf_counter_ns()
            outputs = self.start()
            enqueued = time.perf_counter_ns()
            marks[2].record(self.stream)
            self._copy(self._results, outputs)
            marks[3].record(self.stream)
        marks[3].synchronize()
        h2d, compute, d2h = (before.elapsed_time(after) for before, after in pairwise(marks))
        return {ENQUEUE: (enqueued - began) / 1e6, H2D: h2d, COMPUTE: compute, D2H: d2h}

    def _copy(self, targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
        if not self.transfers:
            return
        for target, source in zip(targets, sources, strict=True):
            target.copy_(source, non_blocking=True)

    def _on_stream(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)


def captured(start: Callable[[], Sequence[Tensor]], stream: Any) -> Callable[[], Sequence[Tensor]]:
    """Capture the work of `start` as a CUDA graph; return its replay on `stream`."""
    with torch.cuda.stream(stream):
        for _ in range(WARM_RUNS):
            start()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        outputs = start()

    def replay() -> Sequence[Tensor]:
        graph.replay()
        return outputs

    return replay


def _pinned(like: Tensor) -> Tensor:
    """Copy a tensor to pinned host memory."""
    host = like.detach().cpu()
    return host.pin_memory() if like.is_cuda else host.clone()
