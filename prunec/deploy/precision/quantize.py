"""FP32 → INT8 by ONNX Runtime's static quantisation, with the options that TensorRT's parser accepts.

    x̂ = s · clip(round(x / s), −127, 127)      s = max|x| / 127, one a tensor; of a weight one an output channel

The runtime's defaults are refused by TensorRT (an INT32 bias behind a DequantizeLinear, zero points that are not 0).
Only what a layer *reads* is quantised: a pair behind it would stand between a convolution and its ReLU, and keep
engines from fusing the two. FP8 takes the same places and the same ranges (`float8`). Afterwards the file is judged by
`qdq.findings`, and the accuracy is that of Q and DQ as they are defined (`reference`), not of fused kernels.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...data.images import Images
from ...errors import BackendError, NumericsError, SpecError
from ...progress import Track, silent
from ..onnx import onnx_file, provenance
from ..onnx.clean import TIDY, clean
from ..onnx.element_types import inferred, named, require_single
from ..ort import parity, reference, runtime
from . import float8, qdq
from .cast import asked_for

KINDS = ("int8", "fp8")
METHODS = {"minmax": {}, "average": {"CalibMovingAverage": True}}  # over all images; or the mean over the batches
TYPES = ("Conv", "Gemm", "MatMul")
BATCH = 32  # images a run
LEAST_COSINE = 0.9  # of the outputs with those in FP32; a MobileNet comes to 0.977, a fault of the runtime's to -0.3


@dataclass(frozen=True)
class Quantised:
    """A model with Q and DQ, what was left alone and why, and how near it is to the model that it was."""

    model: onnx.ModelProto
    kind: str
    layers: tuple[str, ...]  # quantised, by node name
    left: Mapping[str, str]  # node name → reason
    parity: parity.Parity
    images: int


def quantize(
    model: onnx.ModelProto,
    kind: str,
    images: Images,
    *,
    keep: Sequence[str] = (),
    method: str = "minmax",
    track: Track = silent,
) -> Quantised:
    """`model`, of FP32, with its layers in `kind` (`int8` or `fp8`), calibrated on `images`, ready for the network.

    `keep` are patterns of node names that are left alone, besides layers that are too narrow to gain. Raises SpecError
    for a kind, method or pattern that there is not; BackendError where no layer is left to quantise, one that was to be
    is not, or TensorRT would refuse the result; NumericsError where a value is not finite, or the outputs are not
    those of the FP32 model; DataError for images that do not fit.
    """
    if kind not in KINDS or method not in METHODS:
        raise SpecError(
            f"cannot quantise to '{kind}' by '{method}'; choose {' or '.join(KINDS)}, {' or '.join(METHODS)}"
        )
    source = named(model)
    require_single(source)
    if kind == "fp8":
        float8.require_opset(source)
    left = {**_unfit(source), **asked_for(source, keep)}
    wanted = [node.name for node in source.graph.node if node.op_type in TYPES and node.name not in left]
    if not wanted:
        raise BackendError(f"no layer is left to quantise{_first(left)}; keep the model in FP16")
    static = _static(source, wanted, images, method, track)
    done = inferred(float8.convert(static, source) if kind == "fp8" else static)
    _require(done, wanted, kind)
    facts = {
        **provenance.read(model),
        "quantisation": kind,
        "quantisation_images": images.digest,
        "quantisation_layers": str(len(wanted)),
        "parent": provenance.digest(model),
    }
    stamped = provenance.stamp(done, facts)
    near = reference.compare(model, stamped, images, kind, LEAST_COSINE)
    return Quantised(stamped, kind, tuple(wanted), left, near, len(images))


def _unfit(model: onnx.ModelProto) -> dict[str, str]:
    """The layers that would gain nothing, and why."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type not in TYPES:
            continue
        shape = weights.get(node.input[1])
        reason = "its weight is computed, not constant" if shape is None else qdq.too_narrow(node, shape)
        if reason:
            found[node.name] = reason
    return found


def _static(model: onnx.ModelProto, wanted: list[str], images: Images, method: str, track: Track) -> onnx.ModelProto:
    """Quantise the nodes `wanted` with ONNX Runtime, in a folder that is removed afterwards."""
    runtime.require()
    from onnxruntime import quantization as ort

    reader = _Reader(model, images, track)
    options = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "DedicatedQDQPair": True,
        "AddQDQPairToWeight": False,
        "OpTypesToExcludeOutputQuantization": list(TYPES),
        **METHODS[method],
    }
    with tempfile.TemporaryDirectory() as folder, _silent():
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, before)
        ort.quantize_static(
            before,
            after,
            reader,
            quant_format=ort.QuantFormat.QDQ,
            op_types_to_quantize=list(TYPES),
            nodes_to_quantize=wanted,
            per_channel=True,
            activation_type=ort.QuantType.QInt8,
            weight_type=ort.QuantType.QInt8,
            calibrate_method=ort.CalibrationMethod.MinMax,
            extra_options=options,
        )
        return clean(onnx.load(after), TIDY)


class _Reader:
    """The images, as ONNX Runtime asks for them; each batch is seen to fit the model, and to give finite outputs.

    The runtime's calibration leaves NaN out, and would go on.
    """

    def __init__(self, model: onnx.ModelProto, images: Images, track: Track) -> None:
        self._session, step = runtime.session(model), onnx_file.only_batch(model)
        images = images if step is None else images.in_steps(step)
        self._batches = iter(track(list(images.batches(step or BATCH)), "calibrating"))

    def get_next(self) -> dict[str, runtime.Array] | None:
        """The next batch; None after the last."""
        batch = next(self._batches, None)
        if batch is None:
            return None
        if not all(np.isfinite(output).all() for output in runtime.run(self._session, batch)):
            raise NumericsError("the outputs are not finite in FP32 already; no calibration will mend that")
        return runtime.feed_of(self._session, batch)


def _require(model: onnx.ModelProto, wanted: list[str], kind: str) -> None:
    """Raise for a layer that was to be quantised and is not, and for what TensorRT would refuse."""
    missing = sorted(set(wanted) - set(qdq.quantised_layers(model)))
    if missing:
        raise BackendError(f"{kind} did not happen: layer '{missing[0]}' still reads FP32; leave it alone (--keep)")
    for finding in (one for one in qdq.findings(model) if one.fatal):
        failure = NumericsError if finding.rule == "scale" else BackendError
        raise failure(f"the quantised model is not legal: {finding}")


def _first(left: Mapping[str, str]) -> str:
    return next((f" ('{name}': {reason})" for name, reason in left.items()), "")


@contextmanager
def _silent() -> Iterator[None]:
    """Without the runtime's advice to preprocess: shapes are inferred already."""
    root: Any = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
