"""Values that FP16 cannot hold: weights read off the file, activations measured in FP32 on real images.

    FP16 holds 6e-8 … 65504; above it is infinite, below it is 0.

ONNX Runtime computes FP16 graphs in FP32 on most CPUs and hides an overflow (1000 instead of inf, measured), so running
the FP16 model proves nothing: the FP32 model is run with every intermediate value as an output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ..deploy.runtime import Array, run, session
from ..progress import Track, silent
from .findings import Finding

LARGEST, SMALLEST = 65504.0, 2.0**-24
HEADROOM = 8.0  # other images may reach so much further than those that were measured
VANISHING = 1e-3  # of the sum of magnitudes of a tensor: less that becomes 0 changes nothing
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
BATCH = 16


def weights(model: onnx.ModelProto) -> Iterator[Finding]:
    """Initialisers that overflow, or vanish, when they are cast to FP16; FP16 ones that are infinite already."""
    readers = {name: node.name for node in model.graph.node for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name not in readers or tensor.data_type not in (*FLOATS, TensorProto.FLOAT16):
            continue
        values = np.abs(numpy_helper.to_array(tensor).astype(np.float64))
        nonzero = values[values > 0]
        if not nonzero.size:
            continue
        largest, lost = float(nonzero.max()), float(nonzero[nonzero < SMALLEST / 2].sum() / nonzero.sum())
        if largest > LARGEST:
            text = f"{tensor.name} reaches {largest:.3g}, which is infinite in FP16: keep this node in FP32"
            yield Finding("fp16-range", "error", readers[tensor.name], text, {"largest": min(largest, 1e300)})
        elif lost > VANISHING:
            what = "is" if nonzero.size == 1 else f"has {lost:.1%} of its weight in values"
            text = f"{tensor.name} {what} below {SMALLEST:.0e}, which is 0 in FP16: keep this node in FP32"
            yield Finding("fp16-range", "warning", readers[tensor.name], text, {"vanishing": lost})


def activations(model: onnx.ModelProto, inputs: tuple[Array, ...], track: Track = silent) -> Iterator[Finding]:
    """Values that leave FP16, or come within `HEADROOM` of its end, on `inputs` (N samples, batch first, one each).

    Raises DataError where the inputs do not fit the model, BackendError where it does not run.
    """
    for name, (node, largest) in reached(model, inputs, track).items():
        if largest > LARGEST:
            text = f"its value {name} reaches {largest:.3g}, which is infinite in FP16: keep this node in FP32"
            yield Finding("fp16-range", "error", node, text, {"largest": largest})
        elif largest > LARGEST / HEADROOM:
            text = f"its value {name} reaches {largest:.3g}, {LARGEST / largest:.1f}x below the end of FP16"
            yield Finding("fp16-range", "warning", node, text, {"largest": largest})


def reached(model: onnx.ModelProto, inputs: tuple[Array, ...], track: Track = silent) -> dict[str, tuple[str, float]]:
    """By floating-point value of the graph: the node that makes it, and its largest magnitude on `inputs`."""
    watched, makers = _with_every_value(model)
    opened = session(watched)
    names = [entry.name for entry in opened.get_outputs()]
    size = _fixed_batch(model) or BATCH
    largest = dict.fromkeys(names, 0.0)
    starts: Sequence[int] = range(0, max(len(inputs[0]) - size, 0) + 1, size)
    for start in track(starts, "measuring ranges"):
        found = run(opened, tuple(given[start : start + size] for given in inputs))
        for name, values in zip(names, found, strict=True):
            if values.size and values.dtype.kind == "f":
                largest[name] = max(largest[name], float(np.nanmax(np.abs(values))))
    return {name: (makers[name], min(largest[name], 1e300)) for name in names if name in makers}


def _with_every_value(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A copy that gives every floating-point value, and which node makes each."""
    inferred = onnx.shape_inference.infer_shapes(model)
    floating = {entry.name: entry for entry in inferred.graph.value_info if entry.type.tensor_type.elem_type in FLOATS}
    makers = {name: node.name for node in inferred.graph.node for name in node.output if name}
    given = {entry.name for entry in inferred.graph.output}
    inferred.graph.output.extend(entry for name, entry in floating.items() if name in makers and name not in given)
    return inferred, makers


def _fixed_batch(model: onnx.ModelProto) -> int:
    """The batch that the first input fixes; 0 where it is dynamic."""
    constants = {tensor.name for tensor in model.graph.initializer}
    first = next(entry for entry in model.graph.input if entry.name not in constants)
    sizes = first.type.tensor_type.shape.dim
    return int(sizes[0].dim_value) if sizes else 0
