"""`prunec bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..request.config import IMAGES
from . import rules
from .console import err, out, progress
from .model_options import Debug, InputShape, NoVerify, PreprocessText, preprocess_of, read_images

if TYPE_CHECKING:
    from ..deploy.benchmark.contestant import Entry
    from ..ir.signature import Signature
    from ..progress import Track

MISSED = 9  # exit code of a missed gate; 1 to 8 are errors
PROFILED_RUNS = 50
BACKENDS = "onnxruntime, tensorrt, tensorrt-rtx, torch, torch-compile, or auto, which the name tells"
TIME, RUN, OUTPUT = "Timing", "Running", "Output"


def bench(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="A [B …]",
            help="A .onnx file, a .engine of prunec build, a .pt2 program, or file.py:factory. A is what the others are"
            " compared with; alone it is timed against itself.",
            show_default=False,
        ),
    ],
    batch: Annotated[str, typer.Option(metavar="LIST", help="Images a run: 1, or 1,8.", rich_help_panel=TIME)] = "1",
    threads: Annotated[
        str, typer.Option(metavar="LIST", help="Threads of each model: 1, or 1,2.", rich_help_panel=TIME)
    ] = "1",
    seconds: Annotated[
        float,
        typer.Option(
            metavar="S", help="To time all in turn; A against itself takes as long again.", rich_help_panel=TIME
        ),
    ] = 2,
    iterations: Annotated[
        int, typer.Option(metavar="N", help="Runs of each model, at least; p99 needs 1000.", rich_help_panel=TIME)
    ] = 20,
    warm_up: Annotated[
        float, typer.Option(metavar="S", help="To run before, and 10 runs at least.", rich_help_panel=TIME)
    ] = 0.2,
    gate: Annotated[
        str | None,
        typer.Option(
            metavar="1.2x",
            help="End in exit code 9 unless all others are shown to have that speed of A, or more.",
            rich_help_panel=TIME,
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"What runs the models: {BACKENDS}. Once for all, or once for each in turn.",
            show_default="auto",
            rich_help_panel=RUN,
        ),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Of ONNX Runtime: cpu, cuda, tensorrt, rtx, openvino, coreml, directml; of PyTorch: cpu, cuda."
            " That, or nothing. Once for all, or once for each.",
            show_default="cpu",
            rich_help_panel=RUN,
        ),
    ] = None,
    pin: Annotated[
        str,
        typer.Option(
            metavar="CORES",
            help="Keep all threads on these cores: 0,1; auto takes the quietest, as many as threads; or none.",
            rich_help_panel=RUN,
        ),
    ] = "auto",
    input_shape: InputShape = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="IMAGES", help=f"To run on, or else on noise: {IMAGES}.", rich_help_panel=RUN),
    ] = None,
    preprocess: PreprocessText = None,
    transfers: Annotated[
        bool, typer.Option(help="Copy inputs to a GPU and outputs back in each run.", rich_help_panel=RUN)
    ] = True,
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="Replay a CUDA graph: engines, PyTorch.", rich_help_panel=RUN)
    ] = False,
    spin: Annotated[
        bool, typer.Option(help="Wait for a GPU in a loop rather than asleep.", rich_help_panel=RUN)
    ] = True,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Show the time of every layer too, of ONNX files.", rich_help_panel=OUTPUT),
    ] = False,
    to_json: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the numbers, every sample too.", rich_help_panel=OUTPUT),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", help="Draw the times and the speed-ups.", rich_help_panel=OUTPUT),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the noise and of the intervals.")] = 0,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
    """Time models against each other, in turn, with a confidence interval and noise floor.

    A is timed against itself first: what differs there is noise, and a smaller difference is not reported as one.
    The exit code is 9 where --gate was missed.

    \b
        prunec bench dense.onnx out/model.onnx
        prunec bench dense.onnx out/model.onnx --batch 1,8 --threads 1,2 --json times.json --plot times.svg
        prunec bench dense.onnx out/model.onnx --gate 1.2x || echo "not fast enough"
        prunec bench out/model.onnx out/model.pt2 out/model.pt2 --backend auto --backend torch --backend torch-compile
        prunec bench dense.onnx out/model.onnx --provider cuda --no-transfers
        prunec bench dense.engine out/model.engine --batch 8 --cuda-graph
    """
    from ..deploy.benchmark.contestant import Setup
    from ..deploy.benchmark.point import document
    from ..deploy.benchmark.sweep import Sweep, measure
    from ..files.artefacts import write_bytes, write_json
    from ..report import benchmark as tables
    from ..report.difference import difference_table
    from ..report.latency_plot import drawing

    least = None if gate is None else _gate(gate, len(models))
    entries = _entries(models, backend, provider)
    _require_gpu(entries)
    sweep = Sweep(_numbers(batch, "batch"), _numbers(threads, "threads"), seconds, iterations, warm_up, seed, pin)
    setup = Setup(1, *_shape(input_shape), transfers, cuda_graph, spin)
    if profile:
        _require_onnx(entries)
    with progress() as track:
        inputs = None
        if data is not None:
            how = preprocess_of(preprocess, data, None)
            inputs = read_images(data, how, None, seed, None, track, _takes(entries[0])).inputs
        points = list(measure(entries, sweep, setup=setup, inputs=inputs, track=track))
        layers = _profiles(entries, sweep.batches[0], sweep.threads[0], seed, track) if profile else []
    found = document(models, points, least, layers)
    if to_json is not None:
        write_json(to_json, found)
    if plot is not None:
        write_bytes(plot, drawing(found).encode())
    for one in found["points"]:
        out.print(tables.point_table(one))
        out.print(tables.point_lines(one))
    for facts in layers:
        out.print(difference_table(facts, everything=True))
    if least is not None and (missed := found["gate"]["missed"]):
        err.print(f"the gate of {least:g}x was missed: {'; '.join(missed)}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(MISSED)


def _entries(models: list[str], backend: list[str] | None, provider: list[str] | None) -> list[Entry]:
    """Pair each model with its backend and provider. Raises SpecError for options given neither once nor once each."""
    from ..deploy.benchmark.contestant import Entry
    from ..errors import SpecError

    spread = []
    for name, given, usual in (("backend", backend, "auto"), ("provider", provider, "cpu")):
        values = given or [usual]
        if len(values) not in (1, len(models)):
            raise SpecError(
                f"--{name} was given {len(values)} times for {len(models)} models: once for all, or once each"
            )
        spread.append(values * len(models) if len(values) == 1 else values)
    return [Entry.parse(*each) for each in zip(models, *spread, strict=True)]


def _require_gpu(entries: list[Entry]) -> None:
    """Raise SpecError for a GPU option where no model runs on a matching GPU."""
    from ..deploy.benchmark.contestant import MODULES
    from ..errors import SpecError

    on_gpu = [MODULES[each.backend] for each in entries if each.on_gpu]
    effect = {"transfers": bool(on_gpu), "spin": any(each != "onnx_sessions" for each in on_gpu)}
    for name in rules.given():
        if not effect.get(name, True):
            raise SpecError(
                f"--{name} and --no-{name} have no effect on {entries[0].name}: leave it out, or time engines or"
                " PyTorch with --provider cuda"
            )


def _numbers(text: str, what: str) -> tuple[int, ...]:
    from ..errors import SpecError

    if not all(part.strip().isdecimal() for part in text.split(",")):
        raise SpecError(f"--{what} '{text}' is no list of numbers: write for instance --{what} 1,8")
    return tuple(int(part) for part in text.split(","))


def _gate(text: str, count: int) -> float:
    """Parse a speedup, `1.2x` or `1.2`."""
    from ..errors import SpecError

    number = text.strip().lower().removesuffix("x")
    try:
        least = float(number)
    except ValueError:
        least = 0.0
    if not 0 < least < 1000:
        raise SpecError(f"--gate '{text}' is no speed-up: write for instance --gate 1.2x")
    if count < 2:
        raise SpecError("--gate compares, and there is one model: give the one that should be faster too")
    return least


def _shape(text: str | None) -> tuple[tuple[int, ...] | None, str | None]:
    """Return the shape of an input, and its type if named."""
    from ..request.values import shape_of, type_of

    return (None, None) if text is None else (shape_of("--input-shape", text), type_of("--input-shape", text))


def _takes(entry: Entry) -> Signature | None:
    """Return the inputs of an ONNX file; None of other files, read when opened."""
    from ..deploy.onnx import model_inputs

    return model_inputs.of_file(Path(entry.source)) if entry.backend == "onnxruntime" else None


def _require_onnx(entries: list[Entry]) -> None:
    """Raise SpecError where layer times are not available."""
    from ..errors import SpecError

    other = [entry.name for entry in entries if entry.backend != "onnxruntime"]
    if other:
        raise SpecError(f"--profile sees into ONNX Runtime alone, and not into {other[0]}: leave it out")
    if len({entry.provider for entry in entries}) > 1:
        raise SpecError("--profile compares layers on one provider: give --provider once")


def _profiles(entries: list[Entry], batch: int, threads: int, seed: int, track: Track) -> list[dict[str, Any]]:
    """Profile every layer of A beside those of each other model, or of A alone."""
    from ..compare.difference import compare, read
    from ..compare.profiles import measure

    before, *others = [Path(entry.source) for entry in entries]
    how: dict[str, Any] = {"runs": PROFILED_RUNS, "batch": batch, "threads": threads, "seed": seed, "track": track}
    found = []
    for after in others or [before]:
        profiles = measure(before, after, provider=entries[0].provider, **how)
        difference = compare(read(before), read(after), profiles)
        found.append({"before": str(before), "after": str(after), **difference.to_json()})
    return found
