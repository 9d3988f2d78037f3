"""The network that prunec brings, as ONNX, before and after compression: made once for all tests that read it."""

from __future__ import annotations

from functools import cache

import onnx

from prunec import demo
from prunec.api import compress


@cache
def demo_pair() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Dense, and at half its MACs with channels and ranks in multiples of 8. Copy before you change one."""
    images = demo.calibration_images().take(64, 0)
    result = compress(demo.load_network(), images, target="macs:0.5", round_to=8)
    return result.dense_onnx(18), result.onnx(18)
