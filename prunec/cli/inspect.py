"""`prunec inspect`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..request.config import CompressRequest
from ..request.constraints import NONE, Constraints
from ..request.options import optional, reuse
from ..request.values import FLAG, PATH
from .console import out, say
from .flags import Checks, flattened
from .options import CapturedNetwork, Layers, Printing

if TYPE_CHECKING:
    from ..channels.spaces import Channels
    from ..ir.program import Program


@dataclass(frozen=True, kw_only=True)
class Inspect(Printing, Layers, CapturedNetwork, Checks):
    """Record the options of `prunec inspect`."""

    prove: bool = optional(False, "Show that removing channels equals masking them, in float64.", FLAG)
    how_far: bool = optional(False, "Show the least MACs and parameters that can remain, and why not less.", FLAG)
    limits: Mapping[str, float] | None = reuse(CompressRequest, "limits")
    round_to: int = reuse(CompressRequest, "round_to")
    align: str | int | None = reuse(
        CompressRequest, "align", usual=NONE, help="Keep widths that the engine prefers: as in prunec compress."
    )
    keep_branches: bool = reuse(CompressRequest, "keep_branches", panel=None)
    html: Path | None = optional(None, "Draw the network too, as one page for a browser.", PATH, metavar="FILE")

    @property
    def constraints(self) -> Constraints:
        """Return the limits on channels. Raises SpecError."""
        return Constraints(tuple(self.freeze), tuple(self.only), dict(self.limits or {}), self.round_to)


@flattened(Inspect)
def inspect(options: Inspect) -> None:
    """Show the channel spaces of a network: what can be pruned, the MACs it holds, and why the rest is frozen.

    A space is a set of channels that stand or fall together: a layer's output, or a whole residual stream.

    \b
        prunec inspect torchvision:resnet18
        prunec inspect nets.py:make --weights net.safetensors --input-shape 3x32x32 --prove
        prunec inspect torchvision:resnet18 --how-far --limit 'layer4.*=0.3' --round-to 8
        prunec inspect net.pt2 --json | jq .totals
        prunec inspect timm:resnet50 --html resnet50.html
    """
    from ..api import prepared
    from ..channels.spaces import Channels
    from ..cost.macs import total_macs
    from ..ir.unhoisted import unhoisted

    loaded, captured = options.capture()
    program = prepared(captured, options.constraints)
    facts = facts_of(loaded.source, program.fact(Channels))
    if (before := unhoisted(program)) is not program:
        facts["totals"]["unread"] = 1 - facts["totals"]["macs"] / total_macs(before.fact(Channels))
    if options.prove:
        facts["deviation"] = _proved(program)
    if options.how_far:
        facts["how_far"] = _how_far(program, options, facts["spaces"])
    if options.html is not None:
        _draw(options.html, program, facts)
    if options.as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(facts)


def _show(facts: dict[str, Any]) -> None:
    from ..report.console import amount, reach_lines, spaces_table

    totals = facts["totals"]
    out.print(spaces_table(facts))
    out.print(
        f"{totals['prunable']} of {totals['spaces']} spaces can be pruned; they hold"
        f" {totals['prunable_share']:.1%} of {amount(totals['macs'])} MACs an image."
    )
    if unread := totals.get("unread"):
        out.print(f"That is without {unread:.1%} of the MACs, at positions that nothing reads: these are not computed.")
    if "deviation" in facts:
        out.print(f"Proved: channels masked and channels sliced away agree to {facts['deviation']:.1e} in float64.")
    for line in reach_lines(facts["how_far"]) if "how_far" in facts else ():
        out.print(line, markup=False, highlight=False)


def _how_far(program: Program, options: Inspect, spaces: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the least that can remain without ranks, and what keeps the rest."""
    from ..allocation.alignment import Alignment
    from ..channels import branches
    from ..channels.spaces import Channels
    from ..cost.budget import reach_of
    from ..cost.macs import prunable_share

    channels = program.fact(Channels)
    if not options.keep_branches:
        channels = branches.extended(program, channels, options.constraints)
    if (widths := Alignment.parse(str(options.align or NONE))) is not None:
        channels = widths.apply(channels)
    frozen = sorted((one for one in spaces if one["frozen"]), key=lambda one: -float(one["macs"]))
    return {
        "macs": reach_of("macs", channels, program),
        "parameters": reach_of("params", channels, program),
        "blocks": [one.space.removesuffix(":branch") for one in channels.branches],
        "unreached": 1 - prunable_share(channels),
        "held": [
            {"name": one.name, "of": one.size, "keeps": one.fewest} for one in channels.prunable if one.fewest > 1
        ],
        "frozen": [{key: one[key] for key in ("name", "size", "share", "frozen")} for one in frozen],
    }


def _draw(path: Path, program: Program, facts: dict[str, Any]) -> None:
    """Write the page atomically, and print its path."""
    from ..files.artefacts import write_bytes
    from ..report.html import page

    write_bytes(path, page(program, facts).encode())
    say(f"the picture is in {path}: open it in a browser", "green")


def facts_of(name: str, channels: Channels) -> dict[str, Any]:
    """Return the data that `--json` prints."""
    from ..cost.macs import macs_of_space, prunable_share, total_macs

    total, held = total_macs(channels), {**_macs_of_frozen(channels), **macs_of_space(channels)}
    spaces = [
        {
            "name": space.name,
            "size": space.size,
            "macs": held.get(space.name, 0),
            "share": held.get(space.name, 0) / max(total, 1),
            "frozen": space.frozen,
            "sites": [{"parameter": site.parameter, "dim": site.dim, "role": str(site.role)} for site in space.sites],
        }
        for space in channels.spaces
    ]
    totals = {
        "macs": total,
        "spaces": len(spaces),
        "prunable": len(channels.prunable),
        "prunable_share": prunable_share(channels),
    }
    return {"model": name, "totals": totals, "spaces": spaces}


def _macs_of_frozen(channels: Channels) -> dict[str, float]:
    """Return the MACs of the layers that touch each frozen space."""
    from ..cost.macs import macs_of_node

    by_node = macs_of_node(channels)
    touched = {space.name: {site.parameter for site in space.sites} for space in channels.spaces if space.frozen}
    return {
        name: sum(by_node.get(one.node, 0.0) for one in channels.contractions if one.weight in parameters)
        for name, parameters in touched.items()
    }


def _proved(program: Program) -> float:
    """Return the largest relative deviation in float64. Raises NumericsError where it exceeds rounding."""
    from ..channels.spaces import Channels
    from ..errors import NumericsError
    from ..surgery.identity import prove

    deviation = prove(program, program.fact(Channels))
    if not deviation <= 1e-9:
        raise NumericsError(
            f"channels masked and channels sliced away differ by {deviation:.1e}, more than 1e-9: a fault of prunec's"
            " analysis of this network; please report it, and do not trust what it compresses"
        )
    return deviation
