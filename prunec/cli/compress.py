"""`prunec compress`."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import err, out, progress, say, warn
from .model_options import (
    IMAGES,
    MODEL,
    Batch,
    Cache,
    Classes,
    Debug,
    Device,
    Freeze,
    InputShape,
    NoVerify,
    Only,
    Opaque,
    PreprocessText,
    Threads,
    Weights,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..pipeline.method import Method
    from ..pipeline.pipeline import Instrument

METHOD, OUTPUT, WATCH = "Method", "Output", "Watching"


def compress(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=MODEL, show_default=False)] = None,
    data: Annotated[str | None, typer.Option(metavar="IMAGES", help=f"Images to calibrate with: {IMAGES}.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:AMOUNT",
            help="What may remain: macs:0.5 keeps half of the MACs, latency:0.6 so much of the time. Or latency:3.5ms,"
            " params:0.5, size:2MB, memory:1.5MB. Repeatable.",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="OUT", help="The folder to make.")] = None,
    weights: Weights = None,
    opaque: Opaque = None,
    input_shape: InputShape = None,
    preprocess: PreprocessText = None,
    images: Annotated[
        int | None, typer.Option(metavar="N", help="Images to calibrate with, at most.", show_default="1024")
    ] = None,
    labelled: Annotated[
        str | None,
        typer.Option("--evaluate", "--labels-from", metavar="IMAGES", help="Labelled images, for the accuracy."),
    ] = None,
    classes: Classes = None,
    selector: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Which channels go.", show_default="obs", rich_help_panel=METHOD),
    ] = None,
    allocator: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="How many of each space.", show_default="portfolio", rich_help_panel=METHOD),
    ] = None,
    compensator: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="How the rest makes up.", show_default="sequential", rich_help_panel=METHOD),
    ] = None,
    decomposer: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="How a layer becomes two, or none.",
            show_default="collaborative",
            rich_help_panel=METHOD,
        ),
    ] = None,
    keep_branches: Annotated[
        bool, typer.Option("--keep-branches", help="Let no residual block go whole.", rich_help_panel=METHOD)
    ] = False,
    freeze: Freeze = None,
    only: Only = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN=SHARE", help="The most that such layers may lose: 'layer4.*=0.3'. Repeatable."),
    ] = None,
    round_to: Annotated[
        int | None,
        typer.Option(metavar="N", help="Keep multiples of N channels; engines like 8.", show_default="1"),
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(
            metavar="auto|none|N|NAME",
            help="Widths that the engine likes, where the target can be met so: of ONNX Runtime here, none, multiples"
            " of N, or those of trt-fp16, rtx-fp16, ort-avx2, arm … Of a latency target auto means its table's.",
            show_default="auto",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="ENGINE",
            help="Where a latency target is to be met: ort-cpu, ort-cpu{batch=8,threads=2}, or a table of prunec"
            " profile.",
            show_default="ort-cpu",
        ),
    ] = None,
    pipeline: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The whole list of passes instead.", rich_help_panel=METHOD)
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A TOML recipe; what is said here wins over it.", rich_help_panel=METHOD),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Of every choice.", show_default="0", rich_help_panel=METHOD)
    ] = None,
    batch: Batch = None,
    cache: Cache = None,
    threads: Threads = None,
    device: Device = None,
    opset: Annotated[
        int | None, typer.Option(metavar="N", help="Of ONNX.", show_default="18", rich_help_panel=OUTPUT)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a folder that prunec wrote.", rich_help_panel=OUTPUT)
    ] = False,
    no_bench: Annotated[
        bool, typer.Option("--no-bench", help="Do not time before and after.", rich_help_panel=OUTPUT)
    ] = False,
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What to time on: cpu, cuda, tensorrt, rtx.",
            show_default="cpu",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    print_after: Annotated[
        str | None, typer.Option(metavar="PASS", help="Print what is known after it.", rich_help_panel=WATCH)
    ] = None,
    stop_after: Annotated[
        str | None, typer.Option(metavar="PASS", help="Stop after it; nothing is written.", rich_help_panel=WATCH)
    ] = None,
    dump: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the graph after each pass.", rich_help_panel=WATCH)
    ] = None,
    time: Annotated[bool, typer.Option("--time", help="Show the seconds of each pass.", rich_help_panel=WATCH)] = False,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
    """Compress a trained network without retraining, export it to ONNX, verify it and time it.

    The target says what REMAINS. The images need no labels; a thousand are plenty.

    \b
        prunec compress torchvision:resnet50 --weights resnet50.safetensors \\
            --data photos/ --target macs:0.7 -o out/
        prunec compress nets.py:make --weights net.pt --data train.npz \\
            --preprocess mean=0.49,std=0.25 --evaluate test.npz --target macs:0.5 -o out/
        prunec compress --recipe resnet56.toml --target macs:0.4 -o out/
        prunec compress --recipe resnet56.toml --target macs:0.6 --target size:1.5MB -o out/
        prunec compress --recipe resnet56.toml --target latency:0.6 --on "ort-cpu{threads=2}" -o out/

    OUT gets model.onnx, model.safetensors, model.pt2, plan.json, report.json and manifest.json, or is not made at all.
    """
    from ..errors import SpecError
    from ..files.artefacts import require_free
    from ..files.manifest import require_as_written
    from ..pipeline.instruments import Stopped
    from ..request.conflicts import require_no_conflict
    from ..request.recipe import Options, spoken_of
    from . import rules, work

    if output is None and stop_after is None:
        raise SpecError("nothing says where to write: give -o, for instance -o out/")
    if output is not None:
        require_free(output, force)
    given = {
        "model": model, "data": data, "target": target or None, "weights": weights, "opaque": opaque or None,
        "input_shape": input_shape, "preprocess": preprocess, "images": images, "labelled": labelled,
        "classes": classes, "selector": selector, "allocator": allocator, "compensator": compensator,
        "decomposer": decomposer, "keep_branches": keep_branches or None, "pipeline": pipeline,
        "freeze": freeze or None, "only": only or None,
        "limit": limit or None, "round_to": round_to, "align": align, "on": on, "seed": seed, "batch": batch,
        "cache": cache, "threads": threads, "device": device, "opset": opset, "provider": provider,
    }  # fmt: skip
    options = Options.merged(given, recipe)
    if not no_verify:
        for name in (options.model, options.weights, options.data, options.labelled, options.on):
            require_as_written(Path(name or ""))
    require_no_conflict({**({} if recipe is None else spoken_of(recipe)), **rules.given()}, rules.RECIPE)
    work.check(options, whole=stop_after is None, bench=not no_bench and stop_after is None)
    _require_passes(work.method_of(options), {"--print-after": print_after, "--stop-after": stop_after})
    watching = _instruments(print_after, stop_after, dump)
    with progress() as track:
        try:
            loaded, calibration, test = work.read(options, track)
            result = work.run(options, loaded, calibration, watching, track)
        except Stopped as stop:
            say(f"{stop}; nothing was written", "dim")
            return
        assert output is not None  # or the pipeline has stopped
        work.measure(result, options, calibration, test, not no_bench, track)
        work.save(result, options, calibration, output, force, track)
    _show(result.report, output, time)


def _require_passes(method: Method, options: Mapping[str, str | None]) -> None:
    """Raise SpecError for an option that names a pass which the pipeline does not have."""
    from ..errors import SpecError
    from ..grammar.registry import PASSES
    from ..grammar.spec import name_of

    names = [name_of(type(step)) for step in method.passes().passes]
    for option, name in options.items():
        if name is not None and name not in names:
            PASSES.load(name)  # its error says what was meant
            raise SpecError(f"{option} {name}: the pipeline has no such pass; it has {', '.join(names)}")


def _instruments(print_after: str | None, stop_after: str | None, dump: Path | None) -> list[Instrument]:
    from ..pipeline.instruments import Dump, Notes, PrintAfter, StopAfter

    found: list[Instrument] = [Notes(warn)]
    if dump is not None:
        found.append(Dump(dump))
    if print_after is not None:
        found.append(PrintAfter(print_after, lambda text: out.print(text, markup=False, soft_wrap=True)))
    if stop_after is not None:
        found.append(StopAfter(stop_after))
    return found


def _show(report: dict[str, Any], output: Path, time: bool) -> None:
    from ..report.console import outcome_table, seconds_table

    out.print(outcome_table(report, f"{PurePath(report['model']['source']).name} to {report['target']}"))
    if time:
        out.print(seconds_table(report["seconds"]))
    err.print(f"wrote {output}", style="dim", markup=False, soft_wrap=True)
