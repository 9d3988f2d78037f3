"""Collect the start and result of a compression, as facts for `report.json`.

layers       for each layer with weights, in order: `name`, `inputs` and `outputs` [dense, kept], `macs` [dense, kept]
             of one image; `rank` [full, kept] where it became several, `removed` with its residual block, `frozen`:
             why its outputs are
sensitivity  `of`: outputs, or layer where no pass measured them; `spaces`: for each prunable space `name`, `kind`,
             `size` and `kept`, and by evenly spaced counts of removed coordinates, from none to all, the share of the
             MACs `saved` and the `error` (POINTS intervals at most; `prunec sensitivity --json` has every count)
drift        by pass that rewrites the graph: relative change of the outputs
layer_times  ms a run of each layer, [dense, compressed]: `prunec.cli.measure`
command      the command line that made the folder
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from torch import fx

from ..channels.spaces import CARRIES, PRODUCES, Channels, Contraction
from ..cost.macs import Macs, counts_of
from ..data.images import Images
from ..frontend.opaque import paths_in
from ..ir import graph
from ..ir.program import Program
from ..ir.unhoisted import unhoisted
from ..machine import versions
from ..pipeline.context import Context
from ..statistics.facts import Curves
from ..surgery.plan import Plan

POINTS = 32  # intervals of a curve in the report


def capture_facts(dense: Program, left_out: int) -> dict[str, Any]:
    """Return batch, device and notes of a captured network; `left_out` images fill no batch."""
    place = {"batch": dense.only_batch or "any", "device": str(dense.device)}
    return {**place, "left_out": left_out, "notes": list(dense.notes), "opaque": list(paths_in(dense.module))}


def size_facts(
    dense: Program, planned: Program, program: Program, plan: Plan, images: Images, seconds: dict[str, float]
) -> dict[str, Any]:
    """Return MACs and parameters before and after, calibration images, seconds and versions.

    `planned` is the network with its finished plan.
    """
    after = Macs.of(plan.channels).total(counts_of(plan.channels, plan.keep))
    before = Macs.of(unhoisted(planned).fact(Channels)).total()
    return {
        "macs": {"dense": before, "compressed": after, "share": after / before},
        "parameters": {"dense": _count(dense.module), "compressed": _count(program.module)},
        "calibration": {"images": len(images), "digest": images.digest},
        "seconds": seconds,
        "versions": versions(),
    }


def request_facts(context: Context) -> dict[str, Any]:
    """Return the target, the constraints and the seed of a run."""
    return {"target": str(context.target), "constraints": context.constraints.to_json(), "seed": context.seed}


def layer_facts(plan: Plan) -> list[dict[str, Any]]:
    """Return channels and MACs of each layer before and after, and why it is frozen."""
    channels, model = plan.channels, Macs.of(plan.channels)
    sides = [model.by_product(counts) for counts in (model.sizes, counts_of(channels, plan.keep))]
    macs: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for product, before, after in zip(channels.products, *sides, strict=True):
        macs[product.node][0] += float(before)
        macs[product.node][1] += float(after)
    frozen = {
        site.parameter: space.frozen
        for space in channels.spaces
        for site in space.sites
        if space.frozen and site.role in (PRODUCES, CARRIES)
    }
    ranks = {
        one.node: sum(space.name == one.space and space.size for space in channels.prunable)
        for one in channels.factorings
    }
    return [_layer(one, plan, macs[one.node], frozen.get(one.weight), ranks) for one in channels.contractions]


def _layer(
    one: Contraction, plan: Plan, macs: list[float], frozen: str | None, ranks: Mapping[str, int]
) -> dict[str, Any]:
    gone = one.node in plan.gone
    sides = {"inputs": one.inputs, "outputs": one.outputs}
    row: dict[str, Any] = {"name": one.weight.removesuffix(".weight"), "macs": [round(each) for each in macs]}
    row |= {name: [len(side), 0 if gone else int(plan.mask[side].sum())] for name, side in sides.items()}
    row |= {"rank": [ranks[one.node], plan.ranks[one.node][1]]} if one.node in plan.ranks else {}
    row |= {"removed": True} if gone else {}
    return row | ({"frozen": frozen} if frozen else {})


def sensitivity_facts(planned: Program) -> dict[str, Any] | None:
    """Return the removal curves that the allocator read, thinned; None if no pass made any."""
    if not planned.has(Curves) or not planned.has(Plan):
        return None
    curves, plan = planned.fact(Curves), planned.fact(Plan)
    spaces = [
        {**one, "kept": len(plan.keep.get(one["name"], range(one["size"])))} for one in curve_facts(planned, POINTS)
    ]
    return {"of": "outputs" if curves.scaled else "layer", "spaces": spaces}


def curve_facts(program: Program, most: int | None = None) -> list[dict[str, Any]]:
    """Return, by prunable space, saved MACs and error by count removed: all counts, or `most` intervals to 4 digits."""
    channels, curves = program.fact(Channels), program.fact(Curves).by_space
    model, found = Macs.of(channels), []
    whole = model.total()
    for place, space in enumerate(channels.prunable):
        if space.name not in curves:
            continue
        macs, error = model.along(model.sizes, place)[::-1], curves[space.name].error.tolist()
        row: dict[str, Any] = {"name": space.name, "kind": channels.kind_of(space), "size": space.size}
        row |= {"saved": [1 - float(one) / whole for one in macs], "error": error}
        found.append(row if most is None else {**row, **{key: _thinned(row[key], most) for key in ("saved", "error")}})
    return found


def layer_time_facts(difference: Mapping[str, Any], runs: int) -> dict[str, Any]:
    """Return the ms of each layer with any, from a `Difference` with profiles."""

    def pair(row: Mapping[str, Any]) -> list[float]:
        return [_digits((row[side] or {}).get("ms") or 0.0) or 0.0 for side in ("before", "after")]

    layers = [{"name": row["name"], "ms": pair(row)} for row in difference["layers"]]
    runtime = pair(difference["added_by_the_runtime"])
    return {"runs": runs, "layers": [one for one in layers if any(one["ms"])], "runtime": runtime}


def _thinned(curve: list[float], most: int) -> list[float | None]:
    steps = min(most, len(curve) - 1)
    return [_digits(curve[round(step * (len(curve) - 1) / steps)]) for step in range(steps + 1)]


def _digits(number: float) -> float | None:
    """Return four digits; None for what JSON cannot hold."""
    return float(f"{number:.4g}") if math.isfinite(number) else None


def _count(module: fx.GraphModule) -> int:
    return sum(graph.attribute(module, name).numel() for name, _ in module.named_parameters())
