"""Layers whose MACs fall and whose time does not, in real runs of ONNX Runtime."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunec.compare.profiles import Conditions
from prunec.compare.slow_layers import layer_times, slow_layers
from prunec.deploy.onnx.export import export_onnx
from prunec.frontend.capture import capture
from prunec.report.console import outcome_table

pytestmark = pytest.mark.timed


def test_layers_that_lose_macs_and_no_time_are_named() -> None:
    """A depthwise layer of an odd width leaves the blocked kernels: fewer MACs, and many times the time."""
    torch.manual_seed(0)

    def network(width: int) -> nn.Sequential:
        middle = nn.Conv2d(width, width, 3, padding=1, groups=width)
        return nn.Sequential(nn.Conv2d(3, width, 1), middle, nn.Conv2d(width, 8, 1)).eval()

    example = (torch.randn(2, 3, 24, 24),)
    dense, odd, even = (export_onnx(capture(network(width), example).module, example) for width in (128, 113, 64))
    slow = slow_layers(layer_times(dense, odd, Conditions()))
    assert [one["name"] for one in slow][:1] == ["1"]
    assert slow[0]["macs"] < 0.9 < slow[0]["time"]
    assert "1" not in [one["name"] for one in slow_layers(layer_times(dense, even, Conditions()))]


def test_the_report_names_them_and_says_what_was_promised() -> None:
    slow = [{"name": "conv9", "macs": 0.5, "time": 0.95, "lost_ms": 1.0, "weights": []}]
    speedup = {"macs": 2.0, "predicted": 1.5, "by": "MACs in blocks", "measured": 1.1, "slow_layers": slow}
    shown = str(outcome_table({"speedup": speedup}, "a network").caption)
    assert "speed-up 1.10x; predicted 1.50x by MACs in blocks, 2.00x by MACs alone" in shown
    assert "MACs fell and time did not in conv9 (50% of its MACs, 95% of its time)" in shown
