"""Collect the start and result of a compression, as facts for `report.json`."""

from __future__ import annotations

from typing import Any

from torch import fx

from ..channels.spaces import Channels
from ..cost.macs import Macs, counts_of
from ..data.images import Images
from ..frontend.opaque import paths_in
from ..ir import graph
from ..ir.program import Program
from ..ir.unhoisted import unhoisted
from ..machine import versions
from ..pipeline.context import Context
from ..surgery.plan import Plan


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


def _count(module: fx.GraphModule) -> int:
    return sum(graph.attribute(module, name).numel() for name, _ in module.named_parameters())
