"""`prunec sensitivity`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..request.config import MODEL
from .console import out, progress, say, warn
from .model_options import (
    Batch,
    Cache,
    Debug,
    Decomposer,
    Device,
    Freeze,
    InputShape,
    NoVerify,
    Only,
    PreprocessText,
    Seed,
    Selector,
    Weights,
    preprocess_of,
    read_images,
)

if TYPE_CHECKING:
    from ..ir.program import Program

PASSES = "{prepare},calibrate,select{{method={selector}}},ranks{{method={decomposer}}},branches,sensitivity"


def sensitivity(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL, show_default=False)],
    data: Annotated[str, typer.Option(metavar="IMAGES", help="Unlabelled images: a folder, a .npz or .npy file.")],
    weights: Weights = None,
    input_shape: InputShape = None,
    preprocess: PreprocessText = None,
    images: Annotated[int, typer.Option(metavar="N", help="Images, at most.")] = 256,
    selector: Selector = None,
    decomposer: Decomposer = None,
    freeze: Freeze = None,
    only: Only = None,
    seed: Seed = 0,
    batch: Batch = None,
    cache: Cache = None,
    device: Device = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curves as SVG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every point as JSON instead of a table.")] = False,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
    """Show the output error with a part of each space, or a residual block, removed. The rest is refitted.

    The error is squared, relative to the variance of the outputs: 0.01 seldom changes a class, 1 leaves nothing.

    \b
        prunec sensitivity nets.py:make --weights net.safetensors --data photos/
        prunec sensitivity torchvision:resnet18 --data photos/ --plot curves.svg
        prunec sensitivity nets.py:make --data train.npz --selector "top{by=l1}" --json
    """
    from ..data.noise import why_nothing_varies
    from ..device import named
    from ..errors import SpecError
    from ..frontend.capture import capture
    from ..frontend.load import load_model
    from ..ir.signature import signature_of
    from ..pipeline.context import Context
    from ..pipeline.method import PREPARE, STRATEGY
    from ..pipeline.pipeline import Pipeline
    from ..report.console import sensitivity_table
    from ..report.curves import drawing
    from ..request.config import BATCH
    from ..request.constraints import Constraints
    from ..request.values import shape_of

    place = named(device)
    chosen = {"selector": selector or STRATEGY["selector"], "decomposer": decomposer or STRATEGY["decomposer"]}
    passes = Pipeline.parse(PASSES.format(prepare=PREPARE, **chosen))
    loaded = load_model(model, weights)
    shape = loaded.input_size_hint if input_shape is None else shape_of("--input-shape", input_shape)
    constraints = Constraints(tuple(freeze or ()), tuple(only or ()))
    with progress() as track:
        how, takes = preprocess_of(preprocess, data, shape), signature_of(loaded.model)
        found = read_images(data, how, images, seed, None, track, takes).unlabelled()
        captured = capture(loaded.model, found.example()).on(place)
        for note in (*captured.notes, *filter(None, [why_nothing_varies(found.inputs)])):
            warn(note)
        if batch is not None and captured.only_batch not in (None, batch):
            raise SpecError(f"--batch {batch} cannot hold: {model} takes batches of {captured.only_batch} alone")
        size, found = (
            captured.only_batch or batch or BATCH,
            found.in_steps(captured.only_batch or 1).on(captured.device),
        )
        context = Context(None, constraints, found, seed, size, cache, track)
        facts = facts_of(loaded.source, passes.run(captured, context))
    if plot is not None:
        from ..files.artefacts import write_bytes

        write_bytes(plot, drawing(facts).encode())
        say(f"the curves are in {plot}", "green")
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    out.print(sensitivity_table(facts))


def facts_of(name: str, program: Program) -> dict[str, Any]:
    """Return the data that `--json` prints: by space, the error with 0, 1 … coordinates removed."""
    from ..channels.spaces import Channels
    from ..cost.macs import Macs
    from ..statistics.facts import Curves

    channels, curves = program.fact(Channels), program.fact(Curves).by_space
    model = Macs.of(channels)
    spaces = []
    for place, space in enumerate(channels.prunable):
        macs = model.along(model.sizes, place)
        spaces.append(
            {
                "name": space.name,
                "kind": channels.kind_of(space),
                "size": space.size,
                "saved": [1 - float(one) / model.total() for one in macs[::-1]],
                "error": curves[space.name].error.tolist(),
            }
        )
    return {"model": name, "macs": model.total(), "spaces": spaces}
