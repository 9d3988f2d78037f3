"""Summarise samples by trtexec's names, and warn of doubtful ones.

Latency is H2D + GPU compute + D2H if CUDA events measured them, as in trtexec; else host wall time. Runs are not
enqueued ahead, so throughput is runs over their time, below trtexec's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .sampling import WALL, Samples
from .statistics import Times

COMPUTE, ENQUEUE, H2D, D2H = "computeMs", "enqueueMs", "h2dMs", "d2hMs"
NAMES = {ENQUEUE: "Enqueue Time", H2D: "H2D Latency", COMPUTE: "GPU Compute Time", D2H: "D2H Latency"}
FEWEST_FOR_P99 = 1000
UNSTABLE, ENQUEUE_BOUND = 0.025, 0.8  # trtexec's own limits


def summary(samples_ms: Times) -> dict[str, float]:
    """Return the median and 90th-percentile latency in ms; the 99th from 1000 runs on."""
    p50, p90, p99 = np.percentile(samples_ms, (50, 90, 99))
    found = {"p50_ms": float(p50), "p90_ms": float(p90), "runs": len(samples_ms)}
    return {**found, "p99_ms": float(p99)} if len(samples_ms) >= FEWEST_FOR_P99 else found


def compared(models: Sequence[Samples]) -> str:
    """Return the quantity to compare by: CUDA compute time if all have it, else wall time."""
    return COMPUTE if all(COMPUTE in samples for samples in models) else WALL


def latency(samples: Samples) -> Times:
    """Return the latency of each run, in ms."""
    if COMPUTE not in samples:
        return samples[WALL]
    return tuple(map(sum, zip(*(samples[name] for name in (H2D, COMPUTE, D2H)), strict=True)))


def metrics(samples: Samples, batch: int) -> dict[str, Any]:
    """Return the spread of each quantity in ms, throughput per second, totals in seconds."""
    wall = samples[WALL]
    per_second = 1e3 * len(wall) / sum(wall)
    found: dict[str, Any] = {"Throughput": per_second, "Images a second": per_second * batch}
    found |= {"Latency": _spread(latency(samples)), "Host Latency": _spread(wall)}
    found |= {title: _spread(samples[name]) for name, title in NAMES.items() if name in samples}
    found["Total Host Walltime"] = sum(wall) / 1e3
    if COMPUTE in samples:
        found["Total GPU Compute Time"] = sum(samples[COMPUTE]) / 1e3
    return found


def cautions(samples: Samples) -> list[str]:
    """Return trtexec's warnings: enqueue-bound, transfer-bound, unstable clocks."""
    if COMPUTE not in samples:
        return []
    middle = {name: float(np.median(samples[name])) for name in NAMES}
    found = []
    if middle[ENQUEUE] > ENQUEUE_BOUND * middle[COMPUTE]:
        found.append("the host may not enqueue as fast as the GPU works: try --cuda-graph")
    if max(middle[H2D], middle[D2H]) >= middle[COMPUTE]:
        found.append(
            "copies to or from the GPU take longer than its work: a larger batch, or --no-transfers, tells more"
        )
    if _variation(samples[COMPUTE]) > UNSTABLE:
        found.append(
            f"the GPU's times vary by {_variation(samples[COMPUTE]):.1%}: lock its clocks (nvidia-smi -lgc), if you may"
        )
    return found


def _spread(values: Times) -> dict[str, float | None]:
    """Return statistics in ms; `percentile(99%)` is None below 1000 runs."""
    p90, p95, p99 = (float(each) for each in np.percentile(values, (90, 95, 99)))
    return {
        "min": min(values),
        "max": max(values),
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "percentile(90%)": p90,
        "percentile(95%)": p95,
        "percentile(99%)": p99 if len(values) >= FEWEST_FOR_P99 else None,
        "coefficient of variance": _variation(values),
    }


def _variation(values: Times) -> float:
    return float(np.std(values) / np.mean(values)) if any(values) else 0.0
