"""Run an engine on the GPU by `execute_async_v3` on a stream.

Memory, stream and events are torch's. All names and calls exist in tensorrt 10, 11 and tensorrt_rtx.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import BackendError, DataError
from . import gpu, messages
from .package import PACKAGES
from .store import Engine

TYPES = {
    "FLOAT": torch.float32, "HALF": torch.float16, "BF16": torch.bfloat16, "INT8": torch.int8, "INT32": torch.int32,
    "INT64": torch.int64, "BOOL": torch.bool, "UINT8": torch.uint8, "FP8": torch.float8_e4m3fn,
}  # fmt: skip


def open_engine(engine: Engine, cuda_graph: bool = False) -> Runner:
    """Load the engine on this GPU; with `cuda_graph` TensorRT-RTX captures each run.

    Raises BackendError if its package is missing or of another version, there is no suitable GPU, or torch cannot use
    it.
    """
    trt = installed(engine)
    present = gpu.compute_capability()
    if present is None:
        raise BackendError("there is no NVIDIA driver or GPU here, so the engine cannot run: take it to one that has")
    targets = engine.record["targets"]
    if targets and present not in targets and not engine.record["settings"]["hardware"]:
        raise BackendError(
            f"the engine is for SM{', SM'.join(targets)}, and the GPU here is an SM{present}: build for it"
        )
    if not torch.cuda.is_available():
        raise BackendError(f"this torch, {torch.__version__}, cannot use the GPU: install a build of it for CUDA")
    return Runner(trt, engine.plan, cuda_graph=cuda_graph)


def installed(engine: Engine) -> Any:
    """Return the module that built the engine. Raises BackendError if missing or another version."""
    backend = next(name for name, one in PACKAGES.items() if one.module == engine.record["package"])
    trt = PACKAGES[backend].load()
    built = engine.record["version"]
    if trt.__version__ != built and "VERSION_COMPATIBLE" not in engine.record["flags"]:
        raise BackendError(
            f"the engine was built by {trt.__name__} {built}, and {trt.__version__} is installed, which cannot read it:"
            " build it again, or install that version"
        )
    return trt


class Runner:
    """Engine in memory, with the objects that must outlive it."""

    def __init__(self, trt: Any, plan: bytes, device: str = "cuda", cuda_graph: bool = False) -> None:
        """Load the plan. Raises BackendError if it is refused."""
        self._trt, self._device = trt, torch.device(device)
        self.captures = cuda_graph and hasattr(trt, "CudaGraphStrategy")
        self._log = messages.logger(trt)
        started = time.perf_counter()
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BackendError(f"{trt.__name__} cannot read the engine: {messages.explain(self._log.kept)}")
        self._context = self._new_context()
        self.load_seconds = time.perf_counter() - started  # with RTX, kernels are compiled here
        self.stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        self.inputs = tuple(name for name in names if modes[name] == trt.TensorIOMode.INPUT)
        self.outputs = tuple(name for name in names if modes[name] == trt.TensorIOMode.OUTPUT)

    @property
    def device_name(self) -> str:
        """Return the name of the device that the engine runs on."""
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "the CPU"

    def __call__(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return outputs by name, on the CPU. Raises DataError for unfit inputs, BackendError if the run fails."""
        held, outputs = self._bind(feed)
        self._enqueue()
        self._wait()
        del held  # the engine read from it until here
        return {name: value.cpu() for name, value in outputs.items()}

    def resident(self, feed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the inputs on the GPU in the engine's types; runs read them from there."""
        return {name: value.to(self._device, self._type(name)).contiguous() for name, value in feed.items()}

    def bound(self, feed: Mapping[str, Tensor]) -> tuple[Callable[[], None], dict[str, Tensor]]:
        """Return a call that starts a run without waiting, and its output tensors."""
        held, outputs = self._bind(feed)

        def start(held: list[Tensor] = held) -> None:  # every run reads them
            self._enqueue()

        return start, outputs

    def _new_context(self) -> Any:
        """Create a context; with RTX, kernels for the current shapes are compiled at once."""
        if not hasattr(self._trt, "DynamicShapesKernelSpecializationStrategy"):
            return self._engine.create_execution_context()
        config = self._engine.create_runtime_config()
        strategies = self._trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        if self.captures:
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return self._engine.create_execution_context(config)

    def _bind(self, feed: Mapping[str, Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Set every shape and address; return the tensors to keep alive, and the outputs."""
        if set(feed) != set(self.inputs):
            raise DataError(f"the engine takes {', '.join(self.inputs)}, and was given {', '.join(feed) or 'nothing'}")
        held = [self._bind_input(name, feed[name]) for name in self.inputs]
        outputs = {name: self._bind_output(name) for name in self.outputs}
        if self.stream is not None:  # the copies above run on torch's stream
            self.stream.wait_stream(torch.cuda.current_stream(self._device))
        return held, outputs

    def _bind_input(self, name: str, given: Tensor) -> Tensor:
        value = given.to(self._device, self._type(name)).contiguous()
        if not self._context.set_input_shape(name, tuple(value.shape)):
            shapes = [tuple(shape) for shape in self._engine.get_tensor_profile_shape(name, 0)]
            raise DataError(
                f"the engine takes '{name}' from {shapes[0]} to {shapes[-1]}, and was given {tuple(value.shape)}:"
                " choose another batch, or build with another --profile"
            )
        self._context.set_tensor_address(name, value.data_ptr())
        return value

    def _bind_output(self, name: str) -> Tensor:
        shape = tuple(self._context.get_tensor_shape(name))
        value = torch.empty(shape, dtype=self._type(name), device=self._device)
        self._context.set_tensor_address(name, value.data_ptr())
        return value

    def _type(self, name: str) -> torch.dtype:
        return TYPES[self._engine.get_tensor_dtype(name).name]

    def _enqueue(self) -> None:
        handle = 0 if self.stream is None else self.stream.cuda_stream
        if not self._context.execute_async_v3(handle):
            raise BackendError(f"{self._trt.__name__} failed to run the engine: {messages.explain(self._log.kept)}")

    def _wait(self) -> None:
        if self.stream is not None:
            self.stream.synchronize()
