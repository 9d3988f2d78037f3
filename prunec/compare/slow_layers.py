"""Find layers whose MACs fell more than their time.

a layer is slow where   time after / time before  >  1 - KEPT · (1 - MACs after / MACs before)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from ..deploy.onnx.layers import network_of
from ..progress import Track, silent
from .difference import compare
from .profiles import Conditions, measure

FELL = 0.1  # of a layer's MACs, at least
KEPT = 0.5  # of the gain that is expected
SHARE = 0.01  # of the network's time, at least, for a layer to matter


def layer_times(
    dense: onnx.ModelProto, compressed: onnx.ModelProto, conditions: Conditions, track: Track = silent
) -> dict[str, Any]:
    """Profile both networks; return their difference with the ms of each layer. Raises as `profiles.measure` does."""
    profiles = measure(dense, compressed, conditions, track=track)
    return compare(network_of(dense), network_of(compressed), profiles).to_json()


def slow_layers(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return layers of `layer_times` with less than half of the expected gain, worst first.

    Name, MACs and share of time of each.
    """
    whole = found["totals"]["before"]["ms"]
    slow = []
    for row in found["layers"]:
        before, after = row["before"], row["after"]
        if not before or not after or not before["macs"] or before["ms"] < SHARE * whole:
            continue
        macs, time = after["macs"] / before["macs"], after["ms"] / before["ms"]
        if macs <= 1 - FELL and time > 1 - KEPT * (1 - macs):
            lost = after["ms"] - before["ms"] * macs
            slow.append({"name": row["name"], "macs": macs, "time": time, "lost_ms": lost, "weights": after["weights"]})
    return sorted(slow, key=lambda one: -float(one["lost_ms"]))
