"""Networks on disk to build engines from: the compressed demo and ResNet-56, in three precisions, and odd ones."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import Tensor, nn

import prunec
from prunec.api import PREPARE
from prunec.deploy.tensorrt.settings import Profile, Settings, flags_of, targets_of

RTX = importlib.util.find_spec("tensorrt_rtx") is not None
needs_rtx = pytest.mark.skipif(not RTX, reason="tensorrt_rtx is not installed: pip install tensorrt-rtx-cu13")
needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="addresses can be fixed on Linux alone")
SAFE = {  # what TensorRT's parser takes: symmetric, and no INT32 bias behind a DequantizeLinear
    "ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False, "DedicatedQDQPair": True,
    "AddQDQPairToWeight": False,
}  # fmt: skip


def settings(backend: str, sms: str | None = None, profile: str | None = None, **others: Any) -> Settings:
    """Settings of an engine, from texts as on the command line."""
    flags: Any = {name: flags_of(others.pop(name, ())) for name in ("flags", "cleared_flags")}
    return Settings(backend, targets_of(sms), None if profile is None else Profile.parse(profile), **flags, **others)


CHEAP = f"{PREPARE},calibrate,select{{method=top{{by=l1}}}},allocate{{method=uniform}},slice"


def compressed(network: nn.Module, images: Tensor, opset: int = 20) -> onnx.ModelProto:
    """The network with half of its MACs, quickly: an engine does not mind which channels went."""
    result = prunec.compress(network, images, target="macs:0.5", round_to=8, pipeline=CHEAP)
    return result.onnx(opset)


def in_three_precisions(model: onnx.ModelProto, images: Tensor, folder: Path) -> Path:
    """Write fp32.onnx, fp16.onnx and int8.onnx; a folder."""
    onnx.save(model, folder / "fp32.onnx")
    onnx.save(convert_float_to_float16(model, keep_io_types=True), folder / "fp16.onnx")
    quantize_static(
        folder / "fp32.onnx", folder / "int8.onnx", _Reader(images), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"], extra_options=SAFE,
    )  # fmt: skip
    return folder


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """One batch of images."""

    def __init__(self, images: Tensor) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = iter([{"input": images.numpy()}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def written(text: str, path: Path, **constants: np.ndarray) -> Path:
    """An ONNX file from its text form, without the header, and its constants."""
    model = onnx.parser.parse_model(text)
    for name, values in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    onnx.save(model, path)
    return path


def one_conv(folder: Path, batch: str = "batch") -> Path:
    """A single convolution from 3 to 8 channels."""
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
        g (float[{batch}, 3, 8, 8] input) => (float[{batch}, 8, 8, 8] output) {{
            output = Conv<pads = [1, 1, 1, 1]>(input, w) }}"""
    return written(text, folder / f"conv-{batch}.onnx", w=np.ones((8, 3, 3, 3)))


def bfloat16_conv(folder: Path) -> Path:
    """Build the convolution in bfloat16 between casts."""
    text = """<ir_version: 10, opset_import: ["" : 22]>
        g (float[batch, 3, 8, 8] input) => (float[batch, 8, 8, 8] output) {
            x = Cast<to = 16>(input)  v = Cast<to = 16>(w)
            y = Conv<pads = [1, 1, 1, 1]>(x, v)  output = Cast<to = 1>(y) }"""
    return written(text, folder / "bf16.onnx", w=np.ones((8, 3, 3, 3)))


def float8_conv(folder: Path) -> Path:
    """Build the convolution with input and weights quantised to float8."""
    text = """<ir_version: 10, opset_import: ["" : 20]>
        g (float[batch, 16, 8, 8] input) => (float[batch, 16, 8, 8] output) {
            zero = Constant<value = float8e4m3fn {0}>()
            q = QuantizeLinear(input, s, zero)  x = DequantizeLinear(q, s, zero)
            r = QuantizeLinear(w, s, zero)  v = DequantizeLinear(r, s, zero)
            output = Conv<pads = [1, 1, 1, 1]>(x, v) }"""
    return written(text, folder / "fp8.onnx", w=np.ones((16, 16, 3, 3)), s=np.array(0.1))


def noise(count: int, *sizes: int) -> Tensor:
    """Seeded normal noise."""
    return torch.randn(count, *sizes, generator=torch.Generator().manual_seed(0))
