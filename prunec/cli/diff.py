"""`prunec diff`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import out, progress
from .model_options import Debug, NoVerify, Provider

if TYPE_CHECKING:
    from ..progress import Track

RUNS = 50


def diff(
    before: Annotated[
        Path,
        typer.Argument(metavar="BEFORE", help="An ONNX file, an engine, or its JSON.", show_default=False),
    ],
    after: Annotated[Path, typer.Argument(metavar="AFTER", help="The other, of the same kind.", show_default=False)],
    profile: Annotated[
        bool, typer.Option("--profile", help=f"Run both ONNX files in turn, {RUNS} times, and show each layer's time.")
    ] = False,
    times_before: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A profile of BEFORE: of ONNX Runtime's enable_profiling or trtexec --exportProfile."
        ),
    ] = None,
    times_after: Annotated[Path | None, typer.Option(metavar="FILE", help="A profile of AFTER.")] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Images a run of --profile.")] = 1,
    threads: Annotated[int, typer.Option(metavar="N", help="Threads of --profile.")] = 1,
    provider: Provider = "cpu",
    show_all: Annotated[bool, typer.Option("--all", help="Show the layers that are the same too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    no_verify: NoVerify = False,
    debug: Debug = False,
) -> None:
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

    _check(before, after, profile, times_before, times_after)
    networks = read(before), read(after)
    with progress() as track:
        entries = _entries(before, after, profile, times_before, times_after, batch, threads, provider, track)
    facts = {"before": str(before), "after": str(after), **compare(*networks, entries).to_json()}
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    out.print(difference_table(facts, show_all))
    if lines := difference_lines(facts):
        out.print(lines)


def _check(before: Path, after: Path, profile: bool, times_before: Path | None, times_after: Path | None) -> None:
    """Raise SpecError for conflicting arguments."""
    from ..compare.difference import kind_of
    from ..errors import SpecError

    kinds = kind_of(before), kind_of(after)
    if kinds[0] != kinds[1]:
        raise SpecError(f"{before} is {kinds[0]} and {after} {kinds[1]}: compare two of one kind")
    if (times_before is None) != (times_after is None):
        raise SpecError("one profile alone compares nothing: give --times-before and --times-after")
    if profile and times_before is not None:
        raise SpecError("--profile measures what --times-before and --times-after bring: give one or the other")
    if profile and kinds[0] != "ONNX":
        raise SpecError("--profile runs ONNX files; for an engine give the profiles, from trtexec --exportProfile")


def _entries(
    before: Path,
    after: Path,
    profile: bool,
    times_before: Path | None,
    times_after: Path | None,
    batch: int,
    threads: int,
    provider: str,
    track: Track,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """Return the entries of two profiles, measured or read; None without profiles."""
    from ..compare import profiles

    if profile:
        return profiles.measure(before, after, runs=RUNS, batch=batch, threads=threads, provider=provider, track=track)
    if times_before is None or times_after is None:
        return None
    return profiles.read(times_before), profiles.read(times_after)
