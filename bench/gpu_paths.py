"""Open a network on each GPU runtime path; a missing one raises Skip.

`start()` of a path begins a run on fixed inputs, `read()` returns its output as float32 on the CPU.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import pathlib
import struct
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from prunec.deploy.tensorrt import build, runner
from prunec.deploy.tensorrt.settings import Settings

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
TORCH_TYPES = {"F32": torch.float32, "I64": torch.int64}
PROVIDERS = {"ort-cuda": "CUDAExecutionProvider", "ort-tensorrt": "TensorrtExecutionProvider"}


class Skip(Exception):  # noqa: N818  (it is no error)
    """Unavailable path, with the reason."""


@dataclass
class Network:
    """CPU module, one batch of inputs, and its expected float32 output."""

    module: nn.Module
    sample: Tensor
    device: torch.device

    @cached_property
    def expected(self) -> Tensor:
        """Reference output."""
        with torch.no_grad():
            found: Tensor = self.module(self.sample)
        return found

    def on_device(self, precision: str) -> tuple[nn.Module, Tensor]:
        """Return a copy of module and sample on the device, in `precision`."""
        dtype = DTYPES[precision]
        return copy.deepcopy(self.module).to(self.device, dtype), self.sample.to(self.device, dtype)

    def as_onnx(self, precision: str) -> onnx.ModelProto:
        """Return ONNX with a fixed batch; half precision inside, float32 outside."""
        if precision == "fp32":
            return self._exported
        from onnxruntime.transformers.float16 import convert_float_to_float16

        single = onnx.ModelProto()
        single.CopyFrom(self._exported)  # the converter works in place
        half: onnx.ModelProto = convert_float_to_float16(single, keep_io_types=True)
        return half

    @cached_property
    def _exported(self) -> onnx.ModelProto:
        return exported(self.module, self.sample)


@dataclass
class Opened:
    """Network ready to run on one path."""

    start: Callable[[], object]
    read: Callable[[], Tensor]


def exporter() -> str:
    """Return the ONNX exporter's name: prunec's, or torch's where packages are missing."""
    needed = ("onnx_graphsurgeon", "onnxscript")
    lacking = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"torch's older one, without {', '.join(lacking)}" if lacking else "prunec"


def exported(module: nn.Module, sample: Tensor) -> onnx.ModelProto:
    """Export `module` as ONNX at the batch of `sample`."""
    if exporter() == "prunec":
        from prunec.deploy.onnx.export import export_onnx

        return export_onnx(module, (sample,), opset=20, dynamic_batch=False)
    names: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"]}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = pathlib.Path(folder) / "model.onnx"
        torch.onnx.export(module, (sample,), path, dynamo=False, opset_version=18, **names)
        model: onnx.ModelProto = onnx.load(path)
    return model


def eager(network: Network, precision: str) -> Opened:
    """Open PyTorch, operator by operator."""
    module, sample = network.on_device(precision)
    return _of_torch(module, sample)


def graphed(network: Network, precision: str) -> Opened:
    """Open PyTorch with kernels recorded as a CUDA graph."""
    if network.device.type != "cuda":
        raise Skip("CUDA graphs need a GPU")
    module, sample = network.on_device(precision)
    with torch.inference_mode():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                module(sample)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = module(sample)
    return Opened(graph.replay, lambda: output.float().cpu())


def compiled(network: Network, precision: str) -> Opened:
    """Open torch.compile; on a GPU with CUDA graphs."""
    module, sample = network.on_device(precision)
    mode = "reduce-overhead" if network.device.type == "cuda" else "default"
    torch._dynamo.reset()
    return _of_torch(torch.compile(module, mode=mode, dynamic=False), sample)


def _of_torch(module: Callable[[Tensor], Tensor], sample: Tensor) -> Opened:
    def start() -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        with torch.inference_mode():
            return module(sample)

    return Opened(start, lambda: start().float().cpu())


def ort_cpu(network: Network, precision: str) -> Opened:
    """Open ONNX Runtime on the CPU, one thread, as a reference on every machine."""
    from prunec.deploy.ort.runtime import session

    opened, feed = session(network.as_onnx(precision)), {"input": network.sample.numpy()}

    def start() -> list[Any]:
        outputs: list[Any] = opened.run(None, feed)
        return outputs

    return Opened(start, lambda: torch.from_numpy(start()[0]).float())


def ort_gpu(network: Network, precision: str, name: str) -> Opened:
    """Open ONNX Runtime with inputs and outputs bound to the GPU."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if network.device.type != "cuda" or PROVIDERS[name] not in available:
        raise Skip(f"no {PROVIDERS[name]}: this ONNX Runtime has {', '.join(available)}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    model = network.as_onnx(precision).SerializeToString()
    half = {"trt_fp16_enable": "1"} if (name, precision) == ("ort-tensorrt", "fp16") else {}
    session = onnxruntime.InferenceSession(model, options, providers=[(PROVIDERS[name], half)])
    if session.get_providers()[0] != PROVIDERS[name]:
        raise Skip(f"{PROVIDERS[name]} did not start and fell back to {session.get_providers()[0]}")
    held, output = network.sample.to(network.device), torch.empty_like(network.expected, device=network.device)
    binding = session.io_binding()
    binding.bind_input("input", "cuda", 0, np.float32, tuple(held.shape), held.data_ptr())
    binding.bind_output("output", "cuda", 0, np.float32, tuple(output.shape), output.data_ptr())
    torch.cuda.synchronize()

    def start(held: Tensor = held) -> None:  # read at every run
        session.run_with_iobinding(binding)

    return Opened(start, output.cpu)


def engine(network: Network, precision: str, backend: str) -> Opened:
    """Open a TensorRT or TensorRT-RTX engine, built and run by prunec."""
    module = backend.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        raise Skip(f"the package {module} is not installed")
    if network.device.type != "cuda":
        raise Skip("engines run on a GPU alone")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.onnx"
        onnx.save(network.as_onnx(precision), path)
        built = build.build(path, Settings(backend, precision=precision))
    it = runner.open_engine(built)
    start, outputs = it.bound({it.inputs[0]: network.sample})
    return Opened(start, lambda: next(iter(outputs.values())).float().cpu())


PATHS: dict[str, Callable[[Network, str], Opened]] = {
    "torch": eager,
    "torch-graph": graphed,
    "torch-compile": compiled,
    "ort-cpu": ort_cpu,
    "ort-cuda": lambda network, precision: ort_gpu(network, precision, "ort-cuda"),
    "ort-tensorrt": lambda network, precision: ort_gpu(network, precision, "ort-tensorrt"),
    "tensorrt": lambda network, precision: engine(network, precision, "tensorrt"),
    "tensorrt-rtx": lambda network, precision: engine(network, precision, "tensorrt-rtx"),
}


def load_weights(module: nn.Module, path: pathlib.Path) -> None:
    """Read a safetensors file with torch only: eight bytes of length, JSON, numbers."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    entries = {name: one for name, one in json.loads(data[8 : 8 + length]).items() if name != "__metadata__"}
    state = {}
    for name, one in entries.items():
        begin, end = (8 + length + place for place in one["data_offsets"])
        values = torch.frombuffer(bytearray(data[begin:end]), dtype=TORCH_TYPES[one["dtype"]])
        state[name] = values.reshape(one["shape"])
    module.load_state_dict(state)
