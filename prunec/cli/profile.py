"""`prunec profile`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..request.config import CompressRequest
from ..request.options import reuse
from .console import out, progress, say
from .flags import Checks, flattened
from .options import CapturedNetwork, OnnxOutput, Printing

if TYPE_CHECKING:
    from ..ir.program import Program
    from ..latency.table import Table
    from ..selection.interface import Decomposer


@dataclass(frozen=True, kw_only=True)
class Profile(Printing, CapturedNetwork, Checks):
    """Record the options of `prunec profile`."""

    on: str = reuse(
        CompressRequest,
        "on",
        default="ort-cpu",
        usual=None,
        flags=("--target", "--on"),
        help="The engine, how it will be run: ort-cpu{batch=8,threads=2}.",
    )
    output: Path | None = reuse(
        OnnxOutput, "output", default=None, help="Write the table there too, to compress elsewhere.", metavar="FILE"
    )
    decomposer: str = reuse(
        CompressRequest,
        "decomposer",
        default="collaborative",
        usual=None,
        help="Measure the parts that layers may become, too; or none.",
        panel=None,
    )


@flattened(Profile)
def profile(options: Profile) -> None:
    """Measure the time of each layer at a ladder of widths, on this machine: a latency table.

    prunec compress --target latency:… makes what it needs by itself; a file is for compressing on another machine. What
    was measured here before is not measured again, and a run that was stopped goes on.

    \b
        prunec profile nets.py:make --weights net.safetensors --input-shape 3x32x32
        prunec profile torchvision:resnet50 --target "ort-cpu{batch=8,threads=2}" -o edge.json
        prunec compress torchvision:resnet50 --data photos/ --target latency:0.6 --on edge.json -o out/
    """
    from ..api import prepared
    from ..grammar.registry import STRATEGIES
    from ..latency.engine import checked, table_of
    from ..latency.summary import summary
    from ..latency.table_cache import path_of
    from ..report.console import latency_table

    engine = checked(options.on)
    engine.require_here()
    splits = STRATEGIES["decomposers"].make(options.decomposer)
    loaded, captured = options.capture()
    program = prepared(captured)
    table = _filled(table_of(engine), program, splits)
    facts = {"model": loaded.source, "kept": str(path_of(table)) if table.own else None, **summary(program, table)}
    if options.output is not None:
        table.save(options.output)
    if options.as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    out.print(latency_table(facts))
    if place := options.output or facts["kept"]:
        say(f"the table is in {place}", "green")


def _filled(table: Table, program: Program, splits: Decomposer) -> Table:
    """Measure all that the table lacks: layers, their parts, and the network before and after hoisting."""
    from ..ir.unhoisted import unhoisted
    from ..latency import layer_shapes, search

    with progress() as track:
        table, _ = search.filled(table, program, layer_shapes.all_layers_of(program, splits), track)
        if (before := unhoisted(program)) is not program:
            table, _ = search.filled(table, before, layer_shapes.layers_of(before), track)
    return table
