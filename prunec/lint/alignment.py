"""Find channel counts that a target pads or that disable its fast kernel.

    cost step of a layer = MACs · (padded reads / reads · padded makes / makes · cliff − 1),  as a share of the network

An estimate that takes MACs for time: right for large convolutions. Counts that the interface fixes (input colours,
classes) are no findings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..cost.hardware import DeployTarget
from ..deploy.onnx.layers import Layer, Network
from ..ir.graph import reached
from .findings import Finding

SMALL = 1e-3  # share of the network's cost below which a step is a note


@dataclass(frozen=True)
class Cost:
    """MACs of one sample: needed, and paid for on the target."""

    needed: float
    paid: float

    @property
    def ratio(self) -> float:
        """Return paid over needed MACs."""
        return self.paid / self.needed if self.needed else 1.0


def channels_of(layer: Layer) -> tuple[int, int] | None:
    """Return the channels, of all groups, that a weighted layer reads and makes; else None."""
    if not layer.weight:
        return None
    if layer.op == "Conv":
        return layer.weight[1] * layer.groups, layer.weight[0]
    if layer.op == "ConvTranspose":
        return layer.weight[0], layer.weight[1] * layer.groups
    if len(layer.weight) != 2 or not layer.output or not isinstance(layer.output[-1], int):
        return None
    makes = layer.output[-1]
    return (layer.weight[0] * layer.weight[1]) // makes, makes


def cost(network: Network, target: DeployTarget) -> Cost:
    """Compute the MACs of one sample, needed and paid for on the target."""
    fixed = _Interface(network)
    return Cost(
        float(network.macs), sum(layer.macs * _factor(layer, target, fixed) for layer in network.layers if layer.macs)
    )


def findings(network: Network, target: DeployTarget) -> Iterator[Finding]:
    """Yield one finding per layer with misaligned channels, in the order of the network."""
    fixed, whole = _Interface(network), max(cost(network, target).paid, 1.0)
    for layer in network.layers:
        channels = channels_of(layer)
        if channels is None:
            continue
        falls = layer.op == "Conv" and layer.name not in fixed.first and target.falls(*channels, layer.groups)
        odd = {side: n for side, n in fixed.free(layer, channels).items() if not target.suits(n, side == "reads")}
        if not odd:
            continue
        factor = _factor(layer, target, fixed)
        step = layer.macs * (factor - 1) / whole
        text = _text(layer, odd, target, falls)
        level = "warning" if falls or step >= SMALL else "note"
        facts = {
            "reads": channels[0],
            "makes": channels[1],
            "groups": layer.groups,
            "layer_cost": round(factor, 4),
            "network_share": round(step, 6),
            "off_fast_kernel": falls,
            "instead": {side: [target.below(count), target.above(count)] for side, count in odd.items()},
        }
        yield Finding("alignment", level, layer.name, f"{text}: {factor:.2f}x its cost, {step:.1%} of all", facts)


class _Interface:
    """Layers that read an input or make an output, whose counts are fixed."""

    def __init__(self, network: Network) -> None:
        by_name = {layer.name: layer for layer in network.layers}

        def onward(name: str) -> tuple[str, ...]:  # up to the next layer with a weight
            return () if name not in by_name or by_name[name].weight else by_name[name].reads

        self.first = {
            layer.name
            for layer in network.layers
            if any(name in network.inputs for name in reached(layer.reads, onward))
        }
        self.last = {name for name in reached(network.outputs, onward) if name in by_name}

    def free(self, layer: Layer, channels: tuple[int, int]) -> Mapping[str, int]:
        """Return the changeable channels per group, by side; a depthwise layer has one side."""
        reads, makes = channels
        depthwise = layer.groups > 1 and reads == makes == layer.groups
        sides = {"makes": makes if depthwise else makes // layer.groups}
        if not depthwise and layer.name not in self.first:
            sides = {"reads": reads // layer.groups, **sides}
        if layer.name in self.last:
            del sides["makes"]
        return sides


def _factor(layer: Layer, target: DeployTarget, fixed: _Interface) -> float:
    """Return the cost of a layer relative to an aligned one; fixed sides count 1."""
    channels = channels_of(layer)
    if channels is None:
        return 1.0
    reads, makes = channels
    reads = target.above(reads) if layer.name in fixed.first and layer.groups == 1 else reads
    makes = target.above(makes) if layer.name in fixed.last and layer.groups == 1 else makes
    return (target.cost if layer.op == "Conv" else target.padding)(reads, makes, layer.groups)


def _text(layer: Layer, odd: Mapping[str, int], target: DeployTarget, falls: bool) -> str:
    """Return the text: `reads 43 channels (40 or 48 fit) and …`."""
    parts = [f"{side} {count} channels ({_instead(target, count)} fit)" for side, count in odd.items()]
    grouped = f" in each of {layer.groups} groups" if 1 < layer.groups < layer.weight[0] else ""
    cliff = f"; {target.cliff}" if falls and target.cliff else ""
    return f"{' and '.join(parts)}{grouped}{cliff}"


def _instead(target: DeployTarget, count: int) -> str:
    below, above = target.below(count), target.above(count)
    return f"{above}" if below >= above else f"{below} or {above}"
