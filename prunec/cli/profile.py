"""`prunec profile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..request.config import MODEL
from .console import out, progress, say, warn
from .model_options import Debug, InputShape, NoVerify, Opaque, Weights, example_inputs


def profile(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL, show_default=False)],
    on: Annotated[
        str,
        typer.Option(
            "--target", "--on", metavar="ENGINE", help="The engine, how it will be run: ort-cpu{batch=8,threads=2}."
        ),
    ] = "ort-cpu",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the table there too, to compress elsewhere."),
    ] = None,
    weights: Weights = None,
    input_shape: InputShape = None,
    opaque: Opaque = None,
    decomposer: Annotated[
        str, typer.Option(metavar="TEXT", help="Measure the parts that layers may become, too; or none.")
    ] = "collaborative",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
    """Measure the time of each layer at a ladder of widths, on this machine: a latency table.

    prunec compress --target latency:… makes what it needs by itself; a file is for compressing on another machine. What
    was measured here before is not measured again, and a run that was stopped goes on.

    \b
        prunec profile nets.py:make --weights net.safetensors --input-shape 3x32x32
        prunec profile torchvision:resnet50 --target "ort-cpu{batch=8,threads=2}" -o edge.json
        prunec compress torchvision:resnet50 --data photos/ --target latency:0.6 --on edge.json -o out/
    """
    from ..api import prepared
    from ..frontend.capture import capture
    from ..frontend.load import load_model
    from ..grammar.registry import STRATEGIES
    from ..ir.unhoisted import unhoisted
    from ..latency import layer_shapes, search
    from ..latency.engine import checked, table_of
    from ..latency.summary import summary
    from ..latency.table_cache import path_of
    from ..report.console import latency_table

    engine = checked(on)
    engine.require_here()
    splits = STRATEGIES["decomposers"].make(decomposer)
    loaded = load_model(model, weights)
    captured = capture(loaded.model, example_inputs(loaded, input_shape), tuple(opaque or ()))
    for note in captured.notes:
        warn(note)
    program = prepared(captured)
    with progress() as track:
        table, _ = search.filled(table_of(engine), program, layer_shapes.all_layers_of(program, splits), track)
        if (before := unhoisted(program)) is not program:
            table, _ = search.filled(table, before, layer_shapes.layers_of(before), track)
    facts = {"model": loaded.source, "kept": str(path_of(table)) if table.own else None, **summary(program, table)}
    if output is not None:
        table.save(output)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    out.print(latency_table(facts))
    if place := output or facts["kept"]:
        say(f"the table is in {place}", "green")
