"""Build the report of `prunec diff`: layer groups side by side, and totals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..deploy.onnx import onnx_file
from ..deploy.onnx.layers import Layer, Network, network_of
from . import engine_layers, engine_plans
from .matching import Group, align
from .profiles import Kernel, kernels

Entries = Sequence[Mapping[str, Any]]
ENGINES = (".engine", ".plan", ".trt")
COUNTED = ("parameters", "macs", "activation_bytes")


@dataclass(frozen=True)
class Row:
    """One layer group and its kernels on each side; None without a profile."""

    group: Group
    before: tuple[Kernel, ...] | None = None
    after: tuple[Kernel, ...] | None = None

    @property
    def status(self) -> str:
        """One of same, changed, split, merged, added, removed."""
        before, after = self.group.before, self.group.after
        if not before or not after:
            return "removed" if before else "added"
        if len(before) != len(after):
            return "split" if len(before) < len(after) else "merged"
        return "same" if [_looks(one) for one in before] == [_looks(one) for one in after] else "changed"

    def to_json(self) -> dict[str, Any]:
        """Return plain values, each with before and after."""
        sides = {"before": (self.group.before, self.before), "after": (self.group.after, self.after)}
        return {"name": self.group.name, "status": self.status, **{side: _side(*one) for side, one in sides.items()}}


@dataclass(frozen=True)
class Difference:
    """Layer-by-layer difference of two networks."""

    before: Network
    after: Network
    rows: tuple[Row, ...]
    added_kernels: tuple[tuple[Kernel, ...], tuple[Kernel, ...]] | None = None
    """Kernels of no layer on each side, such as reorders; None without profiles."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        rows = [row.to_json() for row in self.rows]
        found = {"layers": rows, "totals": {"before": self._totals(0), "after": self._totals(1)}}
        if self.added_kernels is not None:
            sides = zip(("before", "after"), self.added_kernels, strict=True)
            found["added_by_the_runtime"] = {side: _ran(kernels) for side, kernels in sides}
        return found

    def _totals(self, side: int) -> dict[str, Any]:
        network = (self.before, self.after)[side]
        found: dict[str, Any] = {"layers": len(network.layers)}
        found |= {what: sum(getattr(layer, what) for layer in network.layers) for what in COUNTED}
        found["peak_activation_bytes"] = network.peak_bytes or None
        found |= {"kernels": len(network.layers)} if network.is_engine else {}
        if self.added_kernels is not None:
            ran = [kernel for row in self.rows for kernel in ((row.before, row.after)[side] or ())]
            found |= {key: value for key, value in _ran([*ran, *self.added_kernels[side]]).items() if key != "names"}
        return found


def read(path: Path) -> Network:
    """Read the layers of an ONNX file, a TensorRT-RTX engine, or TensorRT's JSON.

    Raises BackendError where it is none of them.
    """
    if path.suffix == ".json":
        return engine_layers.read(path)
    return engine_plans.read(path) if path.suffix in ENGINES else network_of(onnx_file.load(path))


def kind_of(path: Path) -> str:
    """Return the kind of file that `read` takes `path` for, by its suffix."""
    return "engine JSON" if path.suffix == ".json" else "engine" if path.suffix in ENGINES else "ONNX"


def compare(before: Network, after: Network, profiles: tuple[Entries, Entries] | None = None) -> Difference:
    """Align two networks, with the profile entries of each (`profiles.measure`, `profiles.read`)."""
    groups = align(before, after)
    if profiles is None:
        return Difference(before, after, tuple(Row(group) for group in groups))
    ran = kernels(profiles[0], before), kernels(profiles[1], after)
    rows = tuple(Row(one, _of(one.before, ran[0]), _of(one.after, ran[1])) for one in groups)
    first, second = (tuple(kernel for kernel in side if not kernel.layer) for side in ran)
    return Difference(before, after, rows, (first, second))


def _of(layers: Sequence[Layer], kernels: Sequence[Kernel]) -> tuple[Kernel, ...]:
    names = {layer.name for layer in layers}
    return tuple(kernel for kernel in kernels if kernel.layer in names)


def _looks(layer: Layer) -> tuple[Any, ...]:
    """Return the properties that two equal layers share."""
    return layer.op, layer.output, layer.weight, layer.groups, layer.dtype, layer.parameters, layer.kernel_name


def _side(layers: Sequence[Layer], kernels: Sequence[Kernel] | None) -> dict[str, Any] | None:
    if not layers:
        return None
    found: dict[str, Any] = {
        "layers": [layer.name for layer in layers],
        "ops": [layer.op for layer in layers],
        "outputs": [list(layer.output) for layer in layers],
        "weights": [list(layer.weight) for layer in layers],
        "dtypes": [layer.dtype for layer in layers],
        **{what: sum(getattr(layer, what) for layer in layers) for what in COUNTED},
    }
    if any(layer.kernel_name for layer in layers):
        found |= {"kernels": len(layers), "engine_kernels": [layer.kernel_name for layer in layers]}
    return found if kernels is None else found | _ran(kernels)


def _ran(kernels: Sequence[Kernel]) -> dict[str, Any]:
    """Return number, total time in ms and names of kernels."""
    named = [f"{kernel.name} ({kernel.op})" if kernel.op else kernel.name for kernel in kernels]
    return {"kernels": len(kernels), "ms": round(sum(kernel.ms for kernel in kernels), 6), "names": named}
