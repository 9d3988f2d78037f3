"""Time PyTorch networks, eager or by torch.compile, on the CPU or a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...errors import BackendError, DataError, SpecError
from ...frontend.load import LoadedModel, load_model
from ...ir.calling import filled, tensors_of
from ...ir.signature import floating_type, rows_of_embeddings
from .contestant import Entry, Opened, Setup, require_cuda, require_no_gpu_options
from .gpu_stages import StagedRun, captured
from .inputs import Arrays, Takes
from .sampling import Run, Stages

DEVICES = ("cpu", "cuda")
NUMPY = {"bfloat16": "float32"}  # numpy has no bfloat16
COMPILED = "torch-compile"

Call = Callable[..., Any]


class TorchModule:
    """Network in PyTorch."""

    def __init__(self, loaded: LoadedModel, entry: Entry, setup: Setup) -> None:
        self._device, self._setup, self._entry = torch.device(entry.provider), setup, entry
        self._call = _call_of(loaded, self._device)
        self._floating = floating_type(loaded.model)
        on_gpu = self._device.type == "cuda"
        self.facts: dict[str, Any] = {
            "device": torch.cuda.get_device_name(self._device) if on_gpu else "cpu",
            "threads": setup.threads,
            "denormals_as_zero": True,  # in the thread that calls
            "transfers": on_gpu and setup.transfers,
            "cuda_graph": on_gpu and setup.cuda_graph,
            "spin_wait": on_gpu and setup.spin,
            "tf32": on_gpu and torch.backends.cudnn.allow_tf32,
        }

    def bind(self, inputs: Arrays) -> Run:
        """Return a run on `inputs`. Raises DataError if it does not run, BackendError if it does not compile."""
        torch.set_num_threads(self._setup.threads)
        held = [self._held(torch.from_numpy(each)) for each in inputs]
        call = self._tried(self._call, held, DataError, "does not run on")
        if self._entry.backend == COMPILED:
            call = self._compiled(held)
        start = partial(_tensors, call, held)
        if self._device.type == "cpu":
            return partial(_on_cpu, call, held)
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.inference_mode():
            ready = captured(start, stream) if self._setup.cuda_graph else start
        return StagedRun(ready, held, stream, self._setup.transfers, self._setup.spin)

    def _held(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the device, floats in the network's type."""
        return tensor.to(self._device, self._floating if tensor.is_floating_point() else None)

    def _compiled(self, held: Sequence[Tensor]) -> Call:
        """Compile for these shapes and threads only; a graph break is an error."""
        began = time.perf_counter()
        options = {"cpp.threads": self._setup.threads} if self._device.type == "cpu" else None
        compiled = torch.compile(_own(self._call), dynamic=False, fullgraph=True, options=cast(Any, options))
        call = self._tried(compiled, held, BackendError, "cannot be compiled by torch.compile for")
        self.facts["compile_seconds"] = time.perf_counter() - began
        return call

    def _tried(self, call: Call, held: Sequence[Tensor], failure: type[Exception], what: str) -> Call:
        """Return the call after one trial run."""
        try:
            _on_cpu(call, held)
        except Exception as error:
            shapes = ", ".join(str(list(each.shape)) for each in held)
            reason = str(error).strip().partition("\n")[0]
            raise failure(
                f"{self._entry.source} {what} inputs of {shapes} ({type(error).__name__}: {reason})"
            ) from error
        return call


def open_model(entry: Entry, setup: Setup) -> Opened:
    """Load a network. Raises CaptureError if not found or built, BackendError without the device."""
    if entry.provider not in DEVICES:
        raise SpecError(f"{entry.source} runs in PyTorch, on cpu or cuda, and not on '{entry.provider}'")
    if entry.provider == "cuda":
        require_cuda(entry.source)
    else:
        require_no_gpu_options(setup, "PyTorch on the CPU")
    loaded = load_model(entry.source)
    module = TorchModule(loaded, entry, setup)
    return Opened(_takes(loaded, setup), module.facts, module.bind)


def _call_of(loaded: LoadedModel, device: torch.device) -> Call:
    """Return the network as a function of flat tensors."""
    if isinstance(loaded.model, nn.Module):
        return loaded.model.to(device)
    module, example = loaded.model.module().to(device), loaded.model.example_inputs
    if example is None:
        return module

    def call(*inputs: Tensor) -> Any:
        args, kwargs = filled(example, inputs)
        return module(*args, **kwargs)

    return call


def _takes(loaded: LoadedModel, setup: Setup) -> Takes | None:
    """Return the inputs: given, or declared by an exported program or the source; any batch."""
    example = None if isinstance(loaded.model, nn.Module) else loaded.model.example_inputs
    known = setup.input_shape or loaded.input_size_hint
    if setup.input_shape is None and example is not None:
        tensors = tensors_of(example)
        sizes: tuple[tuple[int | None, ...], ...] = tuple((None, *each.shape[1:]) for each in tensors)
        below = tuple(None if each.is_floating_point() or not each.numel() else int(each.max()) + 1 for each in tensors)
        return Takes(f"{loaded.source} takes {', '.join(map(str, sizes))}", sizes, tuple(map(_type, tensors)), below)
    if known is None:
        return None
    kind, rows = setup.input_type or "float32", rows_of_embeddings(loaded.model)
    return Takes(f"{loaded.source} takes {known}", ((None, *known),), (NUMPY.get(kind, kind),), (rows,))


def _type(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return NUMPY.get(kind, kind)


def _own(call: Call) -> Call:
    """Wrap a call in a function with its own code, which torch.compile caches by."""

    def own(*inputs: Tensor) -> Any:
        return call(*inputs)

    return FunctionType(own.__code__.replace(co_name=f"own_{id(call)}"), globals(), "own", None, own.__closure__)


def _on_cpu(call: Call, held: Sequence[Tensor]) -> Stages:
    with torch.inference_mode():
        call(*held)
    return {}


def _tensors(call: Call, held: Sequence[Tensor]) -> Sequence[Tensor]:
    with torch.inference_mode():
        return tensors_of(call(*held))
