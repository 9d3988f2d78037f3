"""`prunec sensitivity`."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..request.config import BATCH, CompressRequest, Sources
from ..request.options import reuse
from .console import out, progress, say, warn
from .flags import Checks, flattened
from .options import Drawing, GivenImages, Layers, Printing, Shape, ShapedNetwork, Torch

if TYPE_CHECKING:
    from ..data.images import Images
    from ..frontend.load import LoadedModel
    from ..ir.program import Program
    from ..pipeline.context import Context
    from ..progress import Track

PASSES = "{prepare},calibrate,select{{method={selector}}},ranks{{method={decomposer}}},branches,sensitivity"


@dataclass(frozen=True, kw_only=True)
class Sensitivity(Printing, Drawing, Torch, Layers, GivenImages, ShapedNetwork, Checks):
    """Record the options of `prunec sensitivity`."""

    data: str = reuse(GivenImages, "data", default=MISSING, help="Unlabelled images: a folder, a .npz or .npy file.")
    images: int = reuse(Sources, "images", default=256, help="Images, at most.")
    selector: str | None = reuse(CompressRequest, "selector")
    decomposer: str | None = reuse(CompressRequest, "decomposer")
    seed: int = reuse(CompressRequest, "seed")
    cache: Path | None = reuse(CompressRequest, "cache")


@flattened(Sensitivity)
def sensitivity(options: Sensitivity) -> None:
    """Show the output error with a part of each space, or a residual block, removed. The rest is refitted.

    The error is squared, relative to the variance of the outputs: 0.01 seldom changes a class, 1 leaves nothing.

    \b
        prunec sensitivity nets.py:make --weights net.safetensors --data photos/
        prunec sensitivity torchvision:resnet18 --data photos/ --plot curves.svg
        prunec sensitivity nets.py:make --data train.npz --selector "top{by=l1}" --json
    """
    from ..device import named
    from ..pipeline.method import PREPARE, STRATEGY
    from ..pipeline.pipeline import Pipeline
    from ..report.console import sensitivity_table
    from ..request.values import shape_of

    named(options.device)  # fails before the work
    selector, decomposer = options.selector or STRATEGY["selector"], options.decomposer or STRATEGY["decomposer"]
    passes = Pipeline.parse(PASSES.format(prepare=PREPARE, selector=selector, decomposer=decomposer))
    loaded = options.load()
    given = options.input_shape
    shape = loaded.input_size_hint if given is None else shape_of("--input-shape", given)
    with progress() as track:
        program, context = _captured(options, loaded, shape, track)
        facts = facts_of(loaded.source, passes.run(program, context))
    if options.plot is not None:
        _draw(options.plot, facts)
    if options.as_json:
        typer.echo(json.dumps(facts, indent=2))
    else:
        out.print(sensitivity_table(facts))


def _captured(options: Sensitivity, loaded: LoadedModel, shape: Shape, track: Track) -> tuple[Program, Context]:
    """Read the images and capture the network on them. Raises SpecError for a batch that it does not take."""
    from ..deploy.ort.imported import require_same
    from ..device import named
    from ..errors import SpecError
    from ..frontend.capture import capture
    from ..ir.signature import signature_of
    from ..outcome.result import CHECKED
    from ..pipeline.context import Context

    images = options.read(shape, signature_of(loaded.model), track, options.images, options.seed).unlabelled()
    require_same(loaded.model, images.take(CHECKED, options.seed).inputs)
    program = capture(loaded.model, images.example()).on(named(options.device))
    _warn(program, images)
    only, batch = program.only_batch, options.batch
    if batch is not None and only not in (None, batch):
        raise SpecError(f"--batch {batch} cannot hold: {options.model} takes batches of {only} alone")
    images = images.in_steps(only or 1).on(program.device)
    size = only or batch or BATCH
    return program, Context(None, options.constraints, images, options.seed, size, options.cache, track)


def _warn(program: Program, images: Images) -> None:
    from ..data.noise import why_nothing_varies

    for note in (*program.notes, *filter(None, [why_nothing_varies(images.inputs)])):
        warn(note)


def _draw(path: Path, facts: dict[str, Any]) -> None:
    from ..files.artefacts import write_bytes
    from ..report.curves import drawing

    write_bytes(path, drawing(facts).encode())
    say(f"the curves are in {path}", "green")


def facts_of(name: str, program: Program) -> dict[str, Any]:
    """Return the data that `--json` prints: by space, the error with 0, 1 … coordinates removed."""
    from ..channels.spaces import Channels
    from ..cost.macs import total_macs
    from ..report.compression import curve_facts

    return {"model": name, "macs": total_macs(program.fact(Channels)), "spaces": curve_facts(program)}
