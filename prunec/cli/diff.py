"""`prunec diff`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..request.config import CompressRequest
from ..request.options import option, optional, reuse
from ..request.values import PATH
from .console import out, progress
from .flags import Checks, flattened
from .options import Listing, Profiling, Runtime

if TYPE_CHECKING:
    from ..progress import Track

RUNS = 50


@dataclass(frozen=True, kw_only=True)
class Diff(Listing, Runtime, Profiling, Checks):
    """Record the options of `prunec diff`."""

    before: Path = field(metadata=option("An ONNX file, an engine, or its JSON.", PATH, metavar="BEFORE", flags=("",)))
    after: Path = field(metadata=option("The other, of the same kind.", PATH, metavar="AFTER", flags=("",)))
    profile: bool = reuse(
        Profiling, "profile", help=f"Run both ONNX files in turn, {RUNS} times, and show each layer's time."
    )
    times_before: Path | None = optional(
        None,
        "A profile of BEFORE: of ONNX Runtime's enable_profiling or trtexec --exportProfile.",
        PATH,
        metavar="FILE",
    )
    times_after: Path | None = optional(None, "A profile of AFTER.", PATH, metavar="FILE")
    batch: int = reuse(CompressRequest, "batch", default=1, help="Images a run of --profile.", usual=None)
    threads: int = reuse(CompressRequest, "threads", default=1, help="Threads of --profile.", usual=None)
    show_all: bool = reuse(Listing, "show_all", help="Show the layers that are the same too.")


@flattened(Diff)
def diff(options: Diff) -> None:
    """Show what changed between two networks, layer by layer: shapes, MACs, parameters, memory, kernels and time.

    Layers are aligned by the names of their ONNX nodes, through the fusions of an engine; the two halves of a layer
    that low rank has split stand beside the layer they replace. Times are medians of a run; prunec bench says whether
    the whole is faster.

    \b
        prunec diff dense.onnx out/model.onnx
        prunec diff dense.onnx out/model.onnx --profile --batch 8
        prunec diff dense.onnx out/model.onnx --json | jq '.layers[] | select(.status == "split") | .name'
        prunec diff dense.engine pruned.engine
        prunec diff dense.layers.json pruned.layers.json --times-before dense.json --times-after pruned.json

    An engine of TensorRT-RTX tells its kernels and its memory without a GPU; one of TensorRT does not: give the JSON
    that trtexec --exportLayerInfo or TensorRT's engine inspector writes.
    """
    from ..compare.difference import compare, read
    from ..report.difference import difference_lines, difference_table

    _check(options)
    before, after = options.before, options.after
    networks = read(before), read(after)
    with progress() as track:
        entries = _entries(options, track)
    facts = {"before": str(before), "after": str(after), **compare(*networks, entries).to_json()}
    if options.as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    out.print(difference_table(facts, options.show_all))
    if lines := difference_lines(facts):
        out.print(lines)


def _check(options: Diff) -> None:
    """Raise SpecError for conflicting arguments."""
    from ..compare.difference import kind_of
    from ..errors import SpecError

    before, after = options.before, options.after
    kinds = kind_of(before), kind_of(after)
    if kinds[0] != kinds[1]:
        raise SpecError(f"{before} is {kinds[0]} and {after} {kinds[1]}: compare two of one kind")
    if (options.times_before is None) != (options.times_after is None):
        raise SpecError("one profile alone compares nothing: give --times-before and --times-after")
    if options.profile and options.times_before is not None:
        raise SpecError("--profile measures what --times-before and --times-after bring: give one or the other")
    if options.profile and kinds[0] != "ONNX":
        raise SpecError("--profile runs ONNX files; for an engine give the profiles, from trtexec --exportProfile")


def _entries(options: Diff, track: Track) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """Return the entries of two profiles, measured or read; None without profiles."""
    from ..compare import profiles

    if options.profile:
        conditions = profiles.Conditions(options.batch, options.threads, options.provider, runs=RUNS)
        return profiles.measure(options.before, options.after, conditions, track=track)
    if options.times_before is None or options.times_after is None:
        return None
    return profiles.read(options.times_before), profiles.read(options.times_after)
