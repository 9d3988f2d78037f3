"""Open a model for timing, by the engine that runs it.

model.onnx           ONNX Runtime, on a provider            `--backend onnxruntime`
model.engine         TensorRT or TensorRT-RTX, on the GPU   `--backend tensorrt`, `--backend tensorrt-rtx`
net.pt2, f.py:make   PyTorch, operator by operator          `--backend torch`, or compiled, `--backend torch-compile`
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import ModelProto

from ...errors import BackendError, SpecError
from .inputs import Arrays, Takes
from .sampling import Run

MODULES = {  # module of each backend's `open_model`, imported on demand
    "onnxruntime": "onnx_sessions",
    "tensorrt": "engine_runs",
    "tensorrt-rtx": "engine_runs",
    "torch": "torch_modules",
    "torch-compile": "torch_modules",
}
ENGINES = (".engine", ".plan", ".trt")


@dataclass(frozen=True)
class Setup:
    """Options to open all models of one race."""

    threads: int = 1
    input_shape: tuple[int, ...] | None = None
    """Shape of one input without its batch, for a PyTorch network that declares none."""
    input_type: str | None = None
    """Type of that input, if not the network's floating type."""
    transfers: bool = True
    """True if a run includes copies of inputs to the GPU and of outputs back."""
    cuda_graph: bool = False
    spin: bool = True
    """True if the host waits for the GPU in a loop, more exact than sleep."""


@dataclass(frozen=True)
class Entry:
    """Model by name, with its backend and its device or provider."""

    source: str
    backend: str = "onnxruntime"
    provider: str = "cpu"
    model: ModelProto | None = None
    """ONNX model in memory; `source` is only its name then."""

    @classmethod
    def parse(cls, source: str, backend: str = "auto", provider: str = "cpu") -> Entry:
        """Choose the backend, given or from the name. Raises SpecError if they do not match."""
        usual = usual_backend(source)
        asked = usual if backend == "auto" else backend
        if asked not in MODULES:
            raise SpecError(f"backend '{backend}' is not known; choose one of auto, {', '.join(MODULES)}")
        if MODULES[asked] != MODULES[usual]:
            raise SpecError(f"{source} runs in {usual}, not in {asked}{_way(usual, asked)}")
        return cls(source, usual if MODULES[asked] == "engine_runs" else asked, provider)

    @property
    def name(self) -> str:
        """Return the name for tables."""
        return f"{self.source} ({self.backend}{'' if self.provider == 'cpu' else f', {self.provider}'})"

    @property
    def on_gpu(self) -> bool:
        """Return whether it runs on an NVIDIA GPU."""
        return self.provider in ("cuda", "tensorrt", "rtx") or self.backend.startswith("tensorrt")

    def open(self, setup: Setup) -> Opened:
        """Load the model. Raises BackendError or CaptureError if that fails, SpecError for an unsupported option."""
        module = importlib.import_module(f".{MODULES[self.backend]}", __package__)
        opened: Opened = module.open_model(self, setup)
        return opened


@dataclass(frozen=True)
class Opened:
    """A loaded model."""

    takes: Takes | None
    """Inputs of the model; None if unknown."""
    facts: dict[str, Any]
    """Conditions of its times: threads, device, CUDA graph, spinning, providers of nodes."""
    bind: Callable[[Arrays], Run]
    """Function from inputs to a run on them, tried once. Raises DataError if they do not fit."""


def usual_backend(source: str) -> str:
    """Return the backend for a model's name. Raises BackendError for an engine without record."""
    if source.endswith(".onnx"):
        return "onnxruntime"
    if not source.endswith(ENGINES):
        return "torch"
    from ..tensorrt import store

    return "tensorrt" if store.load(Path(source)).record["package"] == "tensorrt" else "tensorrt-rtx"


def require_no_gpu_options(setup: Setup, name: str) -> None:
    """Raise SpecError if a CUDA graph was asked of a backend without them."""
    if setup.cuda_graph:
        raise SpecError(
            f"{name} runs without CUDA graphs here: leave --cuda-graph out, or time engines or --provider cuda"
        )


def require_cuda(name: str) -> None:
    """Raise BackendError if torch cannot use a GPU."""
    import torch

    if not torch.cuda.is_available():
        raise BackendError(
            f"{name} was asked to run on the GPU, which this torch, {torch.__version__}, cannot use: install a build of"
            " it for CUDA on a machine with an NVIDIA GPU"
        )


def _way(usual: str, asked: str) -> str:
    if usual == "onnxruntime" and asked in ("tensorrt", "tensorrt-rtx"):
        return f": build an engine first, prunec build --backend {asked}, and time that, or say --provider tensorrt"
    if usual == "torch":
        return ": export it first, with prunec export"
    return ": leave --backend out"
