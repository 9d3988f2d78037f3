"""Add accuracy, and latency before and after, to the report of a result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..api import Result
    from ..compare.profiles import Conditions
    from ..data.images import Images
    from ..progress import Track

WORTH = 1.1  # MACs ratio above which a missing speedup is examined
LITTLE = 0.5  # measured / promised gain below which layers are examined
PROFILE_MS, FEWEST, RUNS = 10_000, 10, 50  # time for profiles of both networks, and the runs of each


def add_accuracy(result: Result, images: Images, batch: int, track: Track) -> None:
    """Measure top-1 in percent, of the dense, the pruned and the compressed network.

    The pruned network has the same channels removed, without compensation.
    """
    from ..evaluate import accuracy

    programs = {"dense": result.dense, "pruned": result.pruned_program(), "compressed": result.program}
    only = result.dense.only_batch
    found = {
        name: accuracy(program.module, images, batch=only or batch, fixed=only is not None, track=track)
        for name, program in programs.items()
    }
    result.report["accuracy"] = {**found, "images": len(images)}


def add_latency(result: Result, images: Images, opset: int, conditions: Conditions, track: Track) -> None:
    """Compare the latency of both networks on real images, and profile each layer.

    Both are exported alike. The batch size is the network's own where it is fixed.
    """
    from ..compare.slow_layers import layer_times, slow_layers
    from ..deploy.benchmark.contestant import Entry
    from ..deploy.benchmark.point import document
    from ..deploy.benchmark.sweep import Sweep, measure
    from ..report.compression import layer_time_facts

    dense, compressed = result.dense_onnx(opset), result.onnx(opset)
    batch = result.dense.only_batch or min(conditions.batch, len(images))
    models = {"dense": dense, "compressed": compressed}
    pair = [Entry(name, provider=conditions.provider, model=one) for name, one in models.items()]
    sweep = Sweep((batch,), (conditions.threads,), seed=result.report["seed"])
    (point,) = measure(pair, sweep, inputs=next(images.batches(batch)), track=track)
    result.report["latency"] = document(list(models), [point])
    result.report["dense_onnx"] = {"bytes": dense.ByteSize(), "opset": opset}
    result.report["speedup"] = found = predicted(result, dense, compressed)
    found["measured"] = point.speedups[0].ratio
    sum_ms = sum(model["p50_ms"] for model in result.report["latency"]["points"][0]["models"])
    how = replace(conditions, batch=batch, runs=max(FEWEST, min(RUNS, round(PROFILE_MS / sum_ms))))
    try:
        times = layer_times(dense, compressed, how, track)
    except ValueError:  # the provider writes no profile
        return
    result.report["layer_times"] = layer_time_facts(times, how.runs)
    if found["macs"] > WORTH and found["measured"] - 1 < LITTLE * (found["macs"] - 1):
        found["slow_layers"] = slow_layers(times)


def predicted(result: Result, dense: ModelProto, compressed: ModelProto) -> dict[str, Any]:
    """Predict the speedup by MACs, and by a latency table, or else by blocks."""
    from ..cost.hardware import target_of
    from ..deploy.onnx.layers import network_of
    from ..lint.alignment import cost

    facts = result.report
    macs = facts["macs"]["dense"] / facts["macs"]["compressed"]
    latency = facts["notes"].get("allocate", {}).get("latency")
    if latency is not None:
        return {"macs": macs, "predicted": latency["dense_ms"] / latency["predicted_ms"], "by": latency["on"]}
    target = target_of("native")
    paid = [cost(network_of(model), target).paid for model in (dense, compressed)]
    return {"macs": macs, "predicted": paid[0] / paid[1], "by": f"MACs in the blocks of {target.name}"}
