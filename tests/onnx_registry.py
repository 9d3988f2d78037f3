"""An ONNX exporter that parses its operators once a process."""

from __future__ import annotations

import copy
import functools

from torch.onnx._internal.exporter._constants import TORCHLIB_OPSET
from torch.onnx._internal.exporter._registration import ONNXRegistry


def cache_registry() -> None:
    """Let the ONNX exporter parse its 500 functions once a process: two thirds of the time of a small export."""
    build = functools.cache(ONNXRegistry.from_torchlib)

    def copied(cls: type[ONNXRegistry], opset_version: int = TORCHLIB_OPSET) -> ONNXRegistry:
        registry = copy.copy(build(opset_version))
        registry.functions = {target: list(found) for target, found in registry.functions.items()}
        return registry

    ONNXRegistry.from_torchlib = classmethod(copied)  # type: ignore[assignment, method-assign]
