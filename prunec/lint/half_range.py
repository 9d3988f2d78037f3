"""Find values that FP16 cannot hold: weights, and activations measured in FP32 on images.

    FP16 holds 6e-8 … 65504; above it is infinite, below it is 0.

`prunec cast` measures the same and keeps such nodes in FP32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ..data.images import Images
from ..deploy.precision import ranges
from ..progress import Track, silent
from .findings import Finding

LARGEST, SMALLEST = 65504.0, 2.0**-24
VANISHING = 1e-3  # share of a tensor's sum of magnitudes that may become 0
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)


def weights(model: onnx.ModelProto) -> Iterator[Finding]:
    """Yield initialisers that overflow or vanish in FP16, or are infinite already."""
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


def activations(model: onnx.ModelProto, images: Images, track: Track = silent) -> Iterator[Finding]:
    """Yield values on `images` beyond the FP16 range divided by `ranges.MARGIN`.

    Raises DataError if the images do not fit the model, BackendError if it does not run, NumericsError if a value is
    not finite in FP32 already.
    """
    found = ranges.measure(model, images, track)
    makers = {name: node.name for node in model.graph.node for name in node.output if name}
    for name, node in makers.items():
        largest, total = found.largest.get(name, 0.0), found.sums.get(name, 0.0)
        reach = max(largest, total)
        what = f"the sum behind its value {name}" if total > largest else f"its value {name}"
        if reach > LARGEST:
            text = f"{what} reaches {reach:.3g}, which is infinite in FP16: keep this node in FP32"
            yield Finding("fp16-range", "error", node, text, {"largest": reach})
        elif reach > LARGEST / ranges.MARGIN:
            text = f"{what} reaches {reach:.3g}, {LARGEST / reach:.1f}x below the end of FP16"
            yield Finding("fp16-range", "warning", node, text, {"largest": reach})
