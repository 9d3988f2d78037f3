"""Find the nodes that exceed the range of a precision on real images.

    |x| ≤ max / MARGIN       the images are a sample, and others may reach further
    |x| ≥ smallest normal    for the largest entry of a value: an all-subnormal value has lost its digits

Such nodes are kept in FP32. The FP32 model runs with all values as outputs. A mean is a sum first, so its sum counts.
FP16 runs show nothing: on the CPU ONNX Runtime computes FP16 graphs in FP32 and hides overflow. Images must be real:
noise inflates activations (ultralytics PR 26223).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from ...data.images import Images
from ...errors import NumericsError
from ...progress import Track, silent
from ..onnx import onnx_file
from ..onnx.element_types import FLOAT, element_types, inferred
from ..ort.runtime import Array, run, session

MARGIN = 4.0
HELD = 256 << 20  # bytes a run: all values are in memory at once
MEANS = ("ReduceMean", "GlobalAveragePool")
BLIND = ("Cast", "Shape", "Constant", "QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Ranges:
    """Largest |x| of every floating-point value, and of the sums behind means."""

    largest: Mapping[str, float]
    sums: Mapping[str, float]  # by the mean's own name
    images: int

    def leaving(self, model: onnx.ModelProto, precision: str) -> dict[str, str]:
        """Return, by node name, why a node must be kept in FP32."""
        kind = torch.finfo(torch.float16 if precision == "fp16" else torch.bfloat16)
        limit, least = kind.max / MARGIN, kind.smallest_normal
        found = {}
        for node in model.graph.node:
            reasons = (self._reason(name, limit, least) for name in (*node.output, *node.input))
            reason = next(filter(None, reasons), None)
            if reason and node.op_type not in BLIND:
                found[node.name] = reason
        return found

    def _reason(self, name: str, limit: float, least: float) -> str | None:
        largest, total = self.largest.get(name, 0.0), self.sums.get(name, 0.0)
        if largest > limit:
            return f"'{name}' reaches {largest:.3g}, and {limit:.3g} is safe"
        if total > limit:
            return f"the sum behind '{name}' reaches {total:.3g}, and {limit:.3g} is safe"
        return (
            f"'{name}' is {largest:.3g} at most, and {least:.3g} the least that is exact"
            if 0 < largest < least
            else None
        )


def measure(model: onnx.ModelProto, images: Images, track: Track = silent) -> Ranges:
    """Run the FP32 `model` on all `images` and record the largest |x| of each value.

    Raises NumericsError if a value is not finite, DataError if the images do not fit the model.
    """
    full = inferred(model)
    types = element_types(full)
    values = [name for node in full.graph.node for name in node.output if types.get(name) == FLOAT]
    opened = session(_open(full, values))
    names = [entry.name for entry in opened.get_outputs()]
    means = {node.output[0]: node.input[0] for node in full.graph.node if node.op_type in MEANS}
    largest = {
        tensor.name: _reach(tensor.name, numpy_helper.to_array(tensor))
        for tensor in full.graph.initializer
        if tensor.data_type == FLOAT
    }
    sums: dict[str, float] = {}
    step = onnx_file.only_batch(full)
    images = images if step is None else images.in_steps(step)
    for inputs in track(list(images.batches(step or _batch(full))), "measuring ranges"):
        outputs = dict(zip(names, run(opened, inputs), strict=True))
        sizes = {name: array.size for name, array in outputs.items()}
        sizes |= {entry.name: given.numel() for entry, given in zip(opened.get_inputs(), inputs, strict=True)}
        for name, array in outputs.items():
            largest[name] = max(largest.get(name, 0.0), reach := _reach(name, array))
            if name in means and means[name] in sizes:
                sums[name] = max(sums.get(name, 0.0), reach * sizes[means[name]] / max(array.size, 1))
        for entry, given in zip(opened.get_inputs(), inputs, strict=True):
            largest[entry.name] = max(largest.get(entry.name, 0.0), _reach(entry.name, given.numpy()))
    return Ranges(largest, sums, len(images))


def _batch(model: onnx.ModelProto) -> int:
    """Return the number of images to run at once."""
    shapes = (entry.type.tensor_type.shape.dim for entry in model.graph.value_info)
    floats: int = sum(math.prod(max(size.dim_value, 1) for size in shape) for shape in shapes)
    return max(1, min(32, HELD // (4 * max(floats, 1))))


def _open(model: onnx.ModelProto, values: list[str]) -> onnx.ModelProto:
    """Return `model` with all `values` as outputs."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    given = {entry.name for entry in model.graph.output}
    known = {entry.name: entry for entry in model.graph.value_info}
    opened.graph.output.extend(known[name] for name in values if name not in given and name in known)
    return opened


def _reach(name: str, array: Array) -> float:
    """Return max|x|; 0 if empty. Raises NumericsError if not finite."""
    largest = float(np.abs(array).max()) if array.size else 0.0
    if not np.isfinite(largest):
        raise NumericsError(f"'{name}' is not finite in FP32 already; no precision will mend that")
    return largest
