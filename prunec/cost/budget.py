"""Compute the budgets of a target, and check them on the finished network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..channels.analysis import analyse
from ..channels.spaces import Channels
from ..errors import BudgetError, PassError
from ..ir.program import Program
from ..ir.unhoisted import unhoisted
from ..request.target import NAMES, Target
from . import resources
from .memory import memory
from .resources import Quantity, Resource
from .terms import Cost, Counts, Terms, drop_useless_ranks


@dataclass(frozen=True)
class Budget:
    """A quantity and how much of it may remain."""

    quantity: Resource
    target: Target
    allowed: int
    dense: int  # of the network before slices were moved up

    def to_json(self, counts: Counts) -> dict[str, Any]:
        """Return the dense amount, the budget, and the amount with these counts, for the report."""
        return {
            "target": str(self.target),
            "of": NAMES[self.target.kind],
            "dense": self.dense,
            "allowed": self.allowed,
            "planned": self.quantity.total(counts),
        }


def budgets(
    channels: Channels, target: Target, program: Program | None, latency: Resource | None = None
) -> tuple[Budget, ...]:
    """Compute the budget of each part of the target.

    Raises BudgetError where even the fewest coordinates of each space are too many; PassError where a quantity needs
    the network and there is none.
    """
    return tuple(_budget(channels, one, program, latency) for one in target.each)


def _budget(channels: Channels, target: Target, program: Program | None, latency: Resource | None) -> Budget:
    found = latency if target.kind == "latency" else quantity_of(target.kind, channels, program)
    if found is None:
        raise PassError("a target in milliseconds needs a latency table: prunec.latency.search has one measured")
    dense = found.dense if target.kind == "latency" else _dense(target.kind, found, program)
    allowed = target.allowed(dense)
    least = least_of(channels, found)
    if least > allowed:
        raise BudgetError(_unreachable(channels, target, least, dense))
    return Budget(found, target, allowed, dense)


def _dense(kind: str, found: Resource, program: Program | None) -> int:
    """Return the amount in the network before slices were moved up."""
    if program is None or (whole := unhoisted(program)) is program:
        return found.dense
    return quantity_of(kind, whole.fact(Channels), whole).dense


def reach_of(kind: str, channels: Channels, program: Program) -> dict[str, float]:
    """Compute the least of a resource that can remain: `dense`, `least`, and its `share`."""
    found = quantity_of(kind, channels, program)
    dense, least = _dense(kind, found, program), least_of(channels, found)
    return {"dense": dense, "least": least, "share": least / max(dense, 1)}


def quantity_of(kind: str, channels: Channels, program: Program | None) -> Quantity:
    """Return the cost model of a resource."""
    if kind == "macs":
        return resources.macs(channels)
    if program is None:
        raise PassError(f"the {NAMES[kind]} are those of a network, and there is none: only macs can do without")
    if kind == "memory":
        return memory(channels, program.module, program.example_inputs)
    return (resources.parameters if kind == "params" else resources.size)(channels, program.module)


def written(program: Program, promised: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Count each resource of the finished network, and add it to the rows of `Budget.to_json`.

    Counted on the network, not predicted from the plan; latency keeps the plan's value, which was timed on the finished
    network. Raises BudgetError where more remains than was allowed.
    """
    channels = analyse(program)
    kinds = {name: kind for kind, name in NAMES.items()}
    rows = []
    for row in promised:
        kind, found = kinds[row["of"]], row["planned"]
        if kind != "latency":
            found = quantity_of(kind, channels, program).dense
        rows.append({**row, "written": found})
        if found > row["allowed"]:
            raise BudgetError(_missed(rows[-1]))
    return rows


def _missed(row: Mapping[str, Any]) -> str:
    name, share = row["of"], row["written"] / max(row["dense"], 1)
    plan = "as the plan has it" if row["planned"] == row["written"] else f"where the plan has {row['planned']:,}"
    return (
        f"target {row['target']} was missed: {row['allowed']:,} of {row['dense']:,} {name} may remain, and the finished"
        f" network has {row['written']:,} ({share:.4f}), {plan}. Nothing was saved. A pipeline of your own needs"
        " slice and decompose behind allocate; with the default one this is a fault of prunec's cost model: please"
        " report the network. Meanwhile freeze the layers that grew (--freeze), or ask for less to remain"
    )


def least_of(channels: Channels, found: Resource) -> int:
    """Compute the least amount that can remain, with each layer whole or in parts."""
    if not channels.prunable:
        return found.dense
    steps = [found.weighted(row) for row in np.eye(found.steps)]
    return max(step.total(leanest(channels, step)) for step in steps)


def leanest(channels: Channels, cost: Cost) -> Counts:
    """Return the counts of least cost: the fewest, except for latency, where odd widths may cost more."""
    counts = np.array([space.fewest for space in channels.prunable], dtype=np.int64)
    if isinstance(cost, Terms):
        return drop_useless_ranks(cost, counts)
    for place, space in enumerate(channels.prunable):
        along = cost.along(counts, place)
        counts[place] = min((one for one in range(space.size + 1) if space.may_keep(one)), key=along.__getitem__)
    return drop_useless_ranks(cost, counts)


def _unreachable(channels: Channels, target: Target, least: int, dense: int) -> str:
    frozen = [space for space in channels.spaces if space.frozen]
    shown = "; ".join(f"{space.name}: {space.frozen}" for space in frozen[:3])
    more = f" and {len(frozen) - 3} more" if len(frozen) > 3 else ""
    bound = [space for space in channels.prunable if space.fewest > 1]
    hint = f" {len(bound)} spaces have limits or are rounded: relax --limit or --round-to." if bound else ""
    name, share = NAMES[target.kind], least / dense
    remain = f"{share:.4f} of the {name} remain" if target.unit is None else f"{least:,} of {dense:,} {name} remain"
    ask = f" ({target.kind}:{share + 0.0001:.4f} is the least to ask for)" if target.unit is None else ""
    return (
        f"target {target.own} cannot be reached: with the fewest channels left everywhere {remain}{ask}.{hint}"
        f" Frozen: {shown or 'nothing'}{more}"
    )
