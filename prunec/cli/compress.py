"""`prunec compress`."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from ..request.config import METHOD, OUTPUT, CompressRequest
from ..request.options import optional, spelled
from ..request.values import FLAG, PATH, TEXT
from .console import err, out, progress, say, warn
from .flags import Checks, Given, flattened

if TYPE_CHECKING:
    from ..pipeline.pipeline import Instrument, Pipeline

WATCH = "Watching"


@dataclass(frozen=True)
class Files:
    """Record the folder that `prunec compress` makes, and the recipe that it reads."""

    output: Path | None = optional(None, "The folder to make.", PATH, metavar="OUT", flags=("-o", "--output"))
    recipe: Path | None = optional(
        None, "A TOML recipe; what is said here wins over it.", PATH, metavar="FILE", panel=METHOD
    )


@dataclass(frozen=True)
class Writing:
    """Record how results are written and timed."""

    force: bool = optional(False, "Replace a folder that prunec wrote.", FLAG, panel=OUTPUT)
    no_bench: bool = optional(False, "Do not time before and after.", FLAG, panel=OUTPUT)
    no_report: bool = optional(False, "Do not write report.html.", FLAG, panel=OUTPUT)


@dataclass(frozen=True)
class Watching:
    """Record the observers of the passes."""

    print_after: str | None = optional(None, "Print what is known after it.", TEXT, metavar="PASS", panel=WATCH)
    stop_after: str | None = optional(None, "Stop after it; nothing is written.", TEXT, metavar="PASS", panel=WATCH)
    dump: Path | None = optional(None, "Write the graph after each pass.", PATH, metavar="DIR", panel=WATCH)
    time: bool = optional(False, "Show the seconds of each pass.", FLAG, panel=WATCH)


@flattened(Files, Given(CompressRequest), Writing, Watching, Checks)
def compress(files: Files, given: Mapping[str, object], writing: Writing, watching: Watching, checks: Checks) -> None:
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

    OUT gets model.onnx, model.safetensors, model.pt2, plan.json, report.json and manifest.json, or is not made at all;
    then report.html, for a browser.
    """
    from ..errors import SpecError
    from ..files.artefacts import require_free
    from ..pipeline.instruments import Stopped
    from ..report.samples import NOT_COMPARED
    from . import work
    from .report import write_page

    output, bench = files.output, not writing.no_bench
    if output is None and watching.stop_after is None:
        raise SpecError("nothing says where to write: give -o, for instance -o out/")
    if output is not None:
        require_free(output, writing.force)
    request = request_of(given, files.recipe, checks)
    whole = watching.stop_after is None
    passes = work.check(request, whole=whole, bench=bench and whole)
    _require_passes(passes, watching)
    with progress() as track:
        try:
            loaded, calibration, test = work.read(request, track)
            result = work.run(request, loaded, calibration, _instruments(watching), track)
        except Stopped as stop:
            say(f"{stop}; nothing was written", "dim")
            return
        assert output is not None  # required unless the pipeline stops early
        work.measure(result, request, calibration, test, bench, track)
        result.report["command"] = _command(files, given, writing)
        work.save(result, request, calibration, output, writing.force, track)
    _show(result.report, output, watching.time)
    if not writing.no_report:
        say(f"open {write_page(output, NOT_COMPARED)} in a browser", "dim")


def _command(files: Files, given: Mapping[str, object], writing: Writing) -> str:
    """Return the command line of this run, quoted for a shell."""
    words = [spelled(record, values) for record, values in ((CompressRequest, given), (Files, vars(files)))]
    return shlex.join(["prunec", "compress", *itertools.chain(*words), *spelled(Writing, vars(writing))])


def request_of(given: Mapping[str, object], recipe: Path | None, checks: Checks) -> CompressRequest:
    """Merge command line and recipe. Raises SpecError for options in conflict, DataError for files that differ."""
    from ..files.manifest import require_as_written
    from ..request.conflicts import require_no_conflict
    from ..request.recipe import merged, spellings
    from . import rules

    request = merged(CompressRequest, given, recipe)
    if not checks.no_verify:
        for name in (request.model, request.weights, request.data, request.labelled, request.on):
            require_as_written(Path(name or ""))
    require_no_conflict({**({} if recipe is None else spellings(recipe)), **rules.given()}, rules.RECIPE)
    return request


def _require_passes(pipeline: Pipeline, watching: Watching) -> None:
    """Raise SpecError for an option that names a pass which the pipeline does not have."""
    from ..errors import SpecError
    from ..grammar.registry import PASSES
    from ..grammar.spec import name_of

    names = [name_of(type(step)) for step in pipeline.passes]
    for flag, name in {"--print-after": watching.print_after, "--stop-after": watching.stop_after}.items():
        if name is not None and name not in names:
            PASSES.load(name)  # its error suggests a name
            raise SpecError(f"{flag} {name}: the pipeline has no such pass; it has {', '.join(names)}")


def _instruments(watching: Watching) -> list[Instrument]:
    from ..pipeline.instruments import Dump, Notes, PrintAfter, StopAfter

    found: list[Instrument] = [Notes(warn)]
    if watching.dump is not None:
        found.append(Dump(watching.dump))
    if watching.print_after is not None:
        found.append(PrintAfter(watching.print_after, lambda text: out.print(text, markup=False, soft_wrap=True)))
    if watching.stop_after is not None:
        found.append(StopAfter(watching.stop_after))
    return found


def _show(report: dict[str, Any], output: Path, time: bool) -> None:
    from ..report.console import outcome_table, seconds_table

    out.print(outcome_table(report, f"{PurePath(report['model']['source']).name} to {report['target']}"))
    if time:
        out.print(seconds_table(report["seconds"]))
    err.print(f"wrote {output}", style="dim", markup=False, soft_wrap=True)
