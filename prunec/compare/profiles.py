"""Measure time per layer, from a profile of ONNX Runtime or TensorRT, or a run.

ONNX Runtime runs kernels, not nodes: `conv1` and `relu_0` become one kernel `relu_0_nchwc`; `ReorderInput` and
`ReorderOutput`, between its blocked layout and the plain one, belong to no node; a product fused with a transpose is
`matmul_0/MatmulTransposeFusion/`. A kernel's time counts for the layer with the work: its own, or the fused one
upstream.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..deploy.benchmark.inputs import noise
from ..deploy.benchmark.statistics import middle_mean
from ..deploy.onnx.layers import Layer, Network
from ..deploy.ort.runtime import Model, denormals_as_zero, feed_of, session
from ..errors import BackendError
from ..progress import Track, silent

SUFFIX = re.compile(r"(/\w+Fusion/?)?(_nchwc|_token_\d+)*_kernel_time")
WARM_UP = 5  # runs that are thrown away


@dataclass(frozen=True)
class Kernel:
    """One kernel: its layer ("" if added by the runtime), and its time in ms."""

    layer: str
    name: str
    op: str
    ms: float


@dataclass(frozen=True)
class Conditions:
    """Conditions of a profile: `runs` runs on noise of `seed`, after a warm-up."""

    batch: int = 1
    threads: int = 1
    provider: str = "cpu"
    seed: int = 0
    runs: int = 50


def measure(
    before: Model,
    after: Model,
    conditions: Conditions = Conditions(),
    *,
    track: Track = silent,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Profile two models in turns on the same noise.

    Raises as `deploy.benchmark.sweep.measure` does.
    """
    with TemporaryDirectory() as folder:
        opened = [
            session(model, threads=conditions.threads, provider=conditions.provider, profile=Path(folder) / side)
            for side, model in (("before", before), ("after", after))
        ]
        feeds = [feed_of(one, noise(one, conditions.batch, conditions.seed)) for one in opened]
        with denormals_as_zero():
            for _ in track(range(WARM_UP + conditions.runs), "timing every layer"):
                for one, feed in zip(opened, feeds, strict=True):
                    one.run(None, feed)
        first, second = (_entries(Path(one.end_profiling())) for one in opened)
    return first, second


def read(path: Path) -> list[dict[str, Any]]:
    """Read a profile of ONNX Runtime's `enable_profiling` or of trtexec's `--exportProfile`.

    Raises BackendError where the file is neither.
    """
    try:
        return _entries(path)
    except (OSError, ValueError) as error:
        raise BackendError(
            f"{path} is not a profile ({error}): give the JSON of ONNX Runtime's enable_profiling, or of trtexec"
            " --exportProfile"
        ) from error


def kernels(entries: Iterable[Mapping[str, Any]], network: Network) -> tuple[Kernel, ...]:
    """Return the kernels of one run, in order, with their layers in `network`."""
    listed = list(entries)
    timed = [entry for entry in listed if "averageMs" in entry]
    if timed:
        names = {layer.name for layer in network.layers}
        return tuple(
            Kernel(one["name"] if one["name"] in names else "", one["name"], "", one.get("medianMs", one["averageMs"]))
            for one in timed
        )
    samples: dict[str, list[float]] = defaultdict(list)
    ops: dict[str, str] = {}
    for entry in in_order(listed):
        samples[entry["name"]].append(entry["dur"] / 1e3)
        ops[entry["name"]] = entry.get("args", {}).get("op_name", "")
    owners = _owners(samples, network)
    return tuple(
        Kernel(owners[name], name.removesuffix("_kernel_time"), ops[name], middle_mean(taken[WARM_UP:] or taken))
        for name, taken in samples.items()
    )


def samples_of(entries: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Return run times in ms by node, from a profile of ONNX Runtime."""
    found: dict[str, list[float]] = defaultdict(list)
    for entry in in_order(entries):
        found[SUFFIX.sub("", entry["name"])].append(entry["dur"] / 1e3)
    return dict(found)


def in_order(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the kernels that ONNX Runtime ran, in order of time."""
    ran = (one for one in entries if one.get("cat") == "Node" and one["name"].endswith("_kernel_time"))
    return sorted(ran, key=lambda one: float(one["ts"]))


def _owners(names: Iterable[str], network: Network) -> dict[str, str]:
    """Return the layer of each kernel; "" if added by the runtime."""
    layers = {layer.name: layer for layer in network.layers}
    stems = {name: SUFFIX.sub("", name) for name in names}
    run = set(stems.values())
    return {name: _with_work(layers[stem], layers, run).name if stem in layers else "" for name, stem in stems.items()}


def _with_work(layer: Layer, layers: Mapping[str, Layer], run: set[str]) -> Layer:
    """Return the layer, or the upstream layer with MACs fused into it."""
    waiting, seen = [layer], set()
    while waiting:  # ends: each layer is looked into once
        current = waiting.pop(0)
        if current.macs:
            return current
        fused = [name for name in current.reads if name in layers and name not in run and name not in seen]
        seen.update(fused)
        waiting += [layers[name] for name in fused]
    return layer


def _entries(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("no list of entries")
    if not any("averageMs" in one or one.get("cat") == "Node" for one in found):
        raise ValueError("no entry with a time")
    return found
