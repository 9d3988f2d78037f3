"""Record the options of `prunec bench`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..request.config import CompressRequest
from ..request.options import option, optional, reuse
from ..request.values import FLAG, NUMBER, TEXT, TEXTS, whole
from .flags import Checks
from .options import Drawing, GivenImages, Profiling, Results, Runtime, ShapedNetwork, Timing

BACKENDS = "onnxruntime, tensorrt, tensorrt-rtx, torch, torch-compile, or auto, which the name tells"
TIME, RUN, OUTPUT = "Timing", "Running", "Output"


@dataclass(frozen=True, kw_only=True)
class BenchTiming(Timing):
    """Record what `prunec bench` times, and for how long."""

    batch: str = reuse(
        CompressRequest, "batch", default="1", kind=TEXT, help="Images a run: 1, or 1,8.", metavar="LIST", usual=None,
        panel=TIME,
    )  # fmt: skip
    threads: str = reuse(
        CompressRequest, "threads", default="1", kind=TEXT, help="Threads of each model: 1, or 1,2.", metavar="LIST",
        usual=None, panel=TIME,
    )  # fmt: skip
    seconds: float = reuse(
        Timing, "seconds", help="To time all in turn; A against itself takes as long again.", panel=TIME
    )
    iterations: int = optional(20, "Runs of each model, at least; p99 needs 1000.", whole(0), metavar="N", panel=TIME)
    warm_up: float = optional(0.2, "To run before, and 10 runs at least.", NUMBER, metavar="S", panel=TIME)
    gate: str | None = optional(
        None,
        "End in exit code 9 unless all others are shown to have that speed of A, or more.",
        TEXT,
        metavar="1.2x",
        panel=TIME,
    )


@dataclass(frozen=True, kw_only=True)
class BenchRunning(GivenImages):
    """Record how `prunec bench` runs the models, and on what."""

    backend: Sequence[str] = optional(
        (),
        f"What runs the models: {BACKENDS}. For all, or each in turn.",
        TEXTS,
        metavar="NAME",
        usual="auto",
        panel=RUN,
    )
    provider: Sequence[str] = reuse(
        Runtime,
        "provider",
        default=(),
        kind=TEXTS,
        help="Of ONNX Runtime: cpu, cuda, tensorrt, rtx, openvino, coreml, directml; of PyTorch: cpu, cuda."
        " That, or nothing. For all, or each.",
        usual="cpu",
        panel=RUN,
    )
    pin: str = optional(
        "auto",
        "Keep all threads on these cores: 0,1; auto takes the quietest, as many as threads; or none.",
        TEXT,
        metavar="CORES",
        panel=RUN,
    )
    input_shape: str | None = reuse(ShapedNetwork, "input_shape")
    data: str | None = reuse(GivenImages, "data", panel=RUN)
    transfers: bool = optional(True, "Copy inputs to a GPU and outputs back in each run.", FLAG, panel=RUN)
    cuda_graph: bool = optional(False, "Replay a CUDA graph: engines, PyTorch.", FLAG, panel=RUN)
    spin: bool = optional(True, "Wait for a GPU in a loop rather than asleep.", FLAG, panel=RUN)


@dataclass(frozen=True, kw_only=True)
class Bench(Drawing, Results, Profiling, BenchRunning, BenchTiming, Checks):
    """Record the options of `prunec bench`."""

    models: Sequence[str] = field(
        metadata=option(
            "A .onnx file, a .engine of prunec build, a .pt2 program, or file.py:factory. A is what the others are"
            " compared with; alone it is timed against itself.",
            TEXTS,
            metavar="A [B …]",
            flags=("",),
        )
    )
    profile: bool = reuse(Profiling, "profile", panel=OUTPUT)
    to_json: Path | None = reuse(Results, "to_json", help="Write the numbers, every sample too.", panel=OUTPUT)
    plot: Path | None = reuse(Drawing, "plot", help="Draw the times and the speed-ups.", panel=OUTPUT)
    seed: int = reuse(CompressRequest, "seed", help="Of the noise and of the intervals.", panel=None)
