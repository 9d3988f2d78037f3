"""`prunec bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from . import rules
from .bench_options import Bench
from .console import out, progress, say
from .flags import flattened
from .inputs import numbers_of

if TYPE_CHECKING:
    from ..deploy.benchmark.contestant import Entry, Setup
    from ..deploy.benchmark.sweep import Sweep
    from ..ir.signature import Signature
    from ..progress import Track

MISSED = 9  # exit code of a missed gate; 1 to 8 are errors


@flattened(Bench)
def bench(options: Bench) -> None:
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
    from ..deploy.benchmark.point import document
    from ..deploy.benchmark.sweep import measure

    least = None if options.gate is None else _gate(options.gate, len(options.models))
    entries = _entries(options)
    _require_gpu(entries)
    sweep, setup = _sweep(options), _setup(options)
    if options.profile:
        _require_onnx(entries)
    with progress() as track:
        inputs = None
        if options.data is not None:
            inputs = options.read(None, _takes(entries[0]), track, None, options.seed).inputs
        points = list(measure(entries, sweep, setup=setup, inputs=inputs, track=track))
        layers = _profiles(entries, sweep, track) if options.profile else []
    found = document(options.models, points, least, layers)
    _write(options, found)
    _show(found, layers)
    if least is not None and (missed := found["gate"]["missed"]):
        say(f"the gate of {least:g}x was missed: {'; '.join(missed)}")
        raise typer.Exit(MISSED)


def _sweep(options: Bench) -> Sweep:
    from ..deploy.benchmark.sweep import Sweep

    batches, threads = numbers_of("--batch", options.batch), numbers_of("--threads", options.threads)
    long = options.seconds, options.iterations, options.warm_up
    return Sweep(batches, threads, *long, options.seed, options.pin)


def _setup(options: Bench) -> Setup:
    from ..deploy.benchmark.contestant import Setup
    from ..request.values import shape_of, type_of

    text = options.input_shape
    shape = None if text is None else shape_of("--input-shape", text)
    kind = type_of("--input-shape", text)
    return Setup(1, shape, kind, options.transfers, options.cuda_graph, options.spin)


def _write(options: Bench, found: Mapping[str, Any]) -> None:
    from ..files.artefacts import write_bytes, write_json
    from ..report.latency_plot import drawing

    if options.to_json is not None:
        write_json(options.to_json, found)
    if options.plot is not None:
        write_bytes(options.plot, drawing(found).encode())


def _show(found: Mapping[str, Any], layers: Sequence[Mapping[str, Any]]) -> None:
    from ..report import benchmark as tables
    from ..report.difference import difference_table

    for one in found["points"]:
        out.print(tables.point_table(one))
        out.print(tables.point_lines(one))
    for facts in layers:
        out.print(difference_table(facts, everything=True))


def _entries(options: Bench) -> list[Entry]:
    """Pair each model with its backend and provider. Raises SpecError for options given neither once nor once each."""
    from ..deploy.benchmark.contestant import Entry
    from ..errors import SpecError

    models, spread = options.models, []
    for name, values in (("backend", options.backend or ["auto"]), ("provider", options.provider or ["cpu"])):
        if len(values) not in (1, len(models)):
            raise SpecError(
                f"--{name} was given {len(values)} times for {len(models)} models: once for all, or once each"
            )
        spread.append([*values] * len(models) if len(values) == 1 else values)
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


def _profiles(entries: list[Entry], sweep: Sweep, track: Track) -> list[dict[str, Any]]:
    """Profile every layer of A beside those of each other model, or of A alone."""
    from ..compare.difference import compare, read
    from ..compare.profiles import Conditions, measure

    before, *others = [Path(entry.source) for entry in entries]
    conditions = Conditions(sweep.batches[0], sweep.threads[0], entries[0].provider, sweep.seed)
    found = []
    for after in others or [before]:
        difference = compare(read(before), read(after), measure(before, after, conditions, track=track))
        found.append({"before": str(before), "after": str(after), **difference.to_json()})
    return found
