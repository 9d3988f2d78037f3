"""Quantise FP32 to INT8 by ONNX Runtime, with options that TensorRT's parser accepts.

    x̂ = s · clip(round(x / s), −127, 127)      s = max|x| / 127, one a tensor; for a weight, one an output channel

TensorRT refuses the runtime's defaults (an INT32 bias behind a DequantizeLinear, zero points other than 0). Only layer
inputs are quantised: a pair after a convolution would keep engines from fusing its ReLU. FP8 uses equal places and
ranges (`float8`). The file is checked by `qdq.findings`; its accuracy is that of Q and DQ by definition (`reference`),
not of fused kernels.
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
LEAST_COSINE = 0.9  # of the outputs with those in FP32


@dataclass(frozen=True)
class Quantised:
    """Model with Q and DQ, layers left in FP32, and agreement with the source."""

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
    """Quantise the layers of the FP32 `model` to `kind` (`int8` or `fp8`).

    `images` are real, ready for the network, and calibrate the ranges. `keep` are patterns of node names to leave
    alone, besides narrow layers. Raises SpecError for an unknown kind or method or an unmatched pattern; BackendError
    if no layer is left to quantise, one was not quantised, or TensorRT would refuse the result; NumericsError if a
    value is not finite, or the outputs differ from those in FP32; DataError if the images do not fit.
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
    facts = {"quantisation": kind, "quantisation_images": images.digest, "quantisation_layers": str(len(wanted))}
    stamped = provenance.derived(done, model, facts)
    near = reference.compare(model, stamped, images, kind, LEAST_COSINE)
    return Quantised(stamped, kind, tuple(wanted), left, near, len(images))


def _unfit(model: onnx.ModelProto) -> dict[str, str]:
    """Return the layers that would not gain, with the reason."""
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
    """Quantise the nodes `wanted` with ONNX Runtime, in a temporary folder."""
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
    """Calibration batches that fit and give finite outputs; the runtime's own calibration ignores NaN."""

    def __init__(self, model: onnx.ModelProto, images: Images, track: Track) -> None:
        self._session, step = runtime.session(model), onnx_file.only_batch(model)
        images = images if step is None else images.in_steps(step)
        self._batches = iter(track(list(images.batches(step or BATCH)), "calibrating"))

    def get_next(self) -> dict[str, runtime.Array] | None:
        """Return the next batch; None after the last."""
        batch = next(self._batches, None)
        if batch is None:
            return None
        if not all(np.isfinite(output).all() for output in runtime.run(self._session, batch)):
            raise NumericsError("the outputs are not finite in FP32 already; no calibration will mend that")
        return runtime.feed_of(self._session, batch)


def _require(model: onnx.ModelProto, wanted: list[str], kind: str) -> None:
    """Raise for a layer that was not quantised, and for anything TensorRT would refuse."""
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
    """Silence the runtime's advice to preprocess: shapes are inferred already."""
    root: Any = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
