"""Choose an execution provider of ONNX Runtime, and check that it runs the network.

ONNX Runtime silently replaces a provider that does not start, takes no node or fails later by the CPU, so that a "GPU"
latency is the CPU's. Here each of these is an error.

Most providers are part of a build of ONNX Runtime and are selected by name. That of TensorRT-RTX is a plug-in: a
library that is registered first and adds its devices; `get_available_providers` never lists it.
"""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import BackendError, SpecError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

RECORD = "session.record_ep_graph_assignment_info"  # since ONNX Runtime 1.24


@dataclass(frozen=True)
class Provider:
    """Execution provider of ONNX Runtime."""

    name: str
    """ONNX Runtime's name."""
    brought_by: str
    """Package to install."""
    plugin: str | None = None
    """Module that locates the library of a plug-in."""


PROVIDERS = {
    "cpu": Provider("CPUExecutionProvider", "prunec[cpu]"),
    "cuda": Provider("CUDAExecutionProvider", "prunec[gpu]"),
    "tensorrt": Provider("TensorrtExecutionProvider", "prunec[gpu,tensorrt]"),
    "rtx": Provider("NvTensorRTRTXExecutionProvider", "prunec[rtx-provider]", "onnxruntime_ep_nv_tensorrt_rtx"),
    "openvino": Provider("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "coreml": Provider("CoreMLExecutionProvider", "onnxruntime"),
    "directml": Provider("DmlExecutionProvider", "onnxruntime-directml"),
}


def known(name: str) -> Provider:
    """Return the provider of a short name. Raises SpecError for others."""
    if name not in PROVIDERS:
        raise SpecError(f"provider '{name}' is not known; choose one of {', '.join(PROVIDERS)}")
    return PROVIDERS[name]


def require(runtime: Any, name: str) -> None:
    """Raise BackendError if provider `name` is missing or has no device, SpecError if unknown."""
    provider = known(name)
    if provider.plugin is not None:
        _devices(runtime, name, provider)
        return
    available = runtime.get_available_providers()
    if provider.name not in available:
        raise BackendError(
            f"this ONNX Runtime has no provider '{name}', only {', '.join(available)}:"
            f' pip install "{provider.brought_by}" (one build of ONNX Runtime at a time)'
        )


def ask(runtime: Any, name: str, options: SessionOptions) -> list[str] | None:
    """Add provider `name` to `options`; return the value for `providers=`, None for a plug-in. Raises as `require`."""
    require(runtime, name)
    provider = PROVIDERS[name]
    if name != "cpu" and hasattr(runtime.InferenceSession, "get_provider_graph_assignment_info"):
        options.add_session_config_entry(RECORD, "1")
    if provider.plugin is None:
        return [provider.name]
    options.add_provider_for_devices(_devices(runtime, name, provider), {})
    return None


def require_taken(session: InferenceSession, name: str) -> None:
    """Raise BackendError if provider `name` did not start, or took no node."""
    asked = PROVIDERS[name].name
    if session.get_providers()[0] != asked:
        raise BackendError(
            f"ONNX Runtime could not start provider '{name}' and fell back to {session.get_providers()[0]}; its log"
            " says why, most often a driver or library that is missing or too old"
        )
    placed = nodes_by_provider(session)
    if placed and asked not in placed:
        elsewhere = ", ".join(placed)
        raise BackendError(
            f"provider '{name}' started and took none of the {sum(placed.values())} nodes, which {elsewhere} would run:"
            " it supports no operator of this model in this precision"
        )


def nodes_by_provider(session: InferenceSession) -> dict[str, int]:
    """Return the number of nodes on each provider; empty if not recorded.

    Recorded for other providers than the CPU, by ONNX Runtime 1.24 or newer. Some shape computations on the CPU are
    normal beside CUDA; a convolution is not.
    """
    if session.get_providers() == [PROVIDERS["cpu"].name] or not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(counts)


def _devices(runtime: Any, name: str, provider: Provider) -> list[Any]:
    """Return the devices of a plug-in, registering it on first use."""
    assert provider.plugin is not None
    try:
        plugin = importlib.import_module(provider.plugin)
    except ImportError as error:
        raise BackendError(
            f"provider '{name}' is a plug-in that is not installed: pip install \"{provider.brought_by}\""
        ) from error
    if not hasattr(runtime, "register_execution_provider_library"):
        raise BackendError(
            f'ONNX Runtime {runtime.__version__} cannot load plug-ins: pip install "{provider.brought_by}", which needs'
            " 1.24 or newer"
        )
    wanted = plugin.get_ep_name()
    try:
        if wanted not in _registered:
            runtime.register_execution_provider_library(wanted, plugin.get_library_path())
            _registered.add(wanted)
    except Exception as error:
        reason = str(error).strip().rpartition(" with error: ")[2].partition("\n")[0]
        raise BackendError(
            f"the plug-in of provider '{name}' cannot be loaded ({reason}): it needs an RTX GPU and its driver"
        ) from error
    devices = [device for device in runtime.get_ep_devices() if device.ep_name == wanted]
    if not devices:
        raise BackendError(f"provider '{name}' finds no device that it supports: it needs an RTX GPU, Ampere or newer")
    return devices


_registered: set[str] = set()  # a process registers a library only once
