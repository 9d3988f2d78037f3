"""`prunec inspect`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..request.options import optional
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
    html: Path | None = optional(None, "Draw the network too, as one page for a browser.", PATH, metavar="FILE")


@flattened(Inspect)
def inspect(options: Inspect) -> None:
    """Show the channel spaces of a network: what can be pruned, the MACs it holds, and why the rest is frozen.

    A space is a set of channels that stand or fall together: a layer's output, or a whole residual stream.

    \b
        prunec inspect torchvision:resnet18
        prunec inspect nets.py:make --weights net.safetensors --input-shape 3x32x32 --prove
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
    if options.html is not None:
        _draw(options.html, program, facts)
    if options.as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(facts)


def _show(facts: dict[str, Any]) -> None:
    from ..report.console import amount, spaces_table

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
