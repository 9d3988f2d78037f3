"""`prunec bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import out, progress
from .model_options import Debug, Provider


def bench(
    a: Annotated[Path, typer.Argument(metavar="A.onnx", help="The model to compare with.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B.onnx", help="The model that should be faster.", show_default=False)],
    batch: Annotated[int, typer.Option(metavar="N", help="Images a run.")] = 1,
    threads: Annotated[int, typer.Option(metavar="N", help="Threads of each model.")] = 1,
    provider: Provider = "cpu",
    seconds: Annotated[float, typer.Option(metavar="S", help="To time for; A against itself takes as long again.")] = 2,
    to_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers too, every sample included.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Time two ONNX models against each other, run by run in turn, with a confidence interval and a noise floor.

    A is timed against itself first: what differs there is noise, and a smaller difference is not reported as one.

    \b
        prunec bench dense.onnx out/model.onnx
        prunec bench dense.onnx out/model.onnx --batch 16 --threads 4 --seconds 10 --json times.json
        prunec bench dense.onnx out/model.onnx --provider cuda
    """
    from ..artefacts import write_json
    from ..deploy.benchmark import compare
    from ..report.console import comparison_lines, comparison_table

    with progress() as track:
        facts = compare(a, b, batch=batch, threads=threads, seconds=seconds, provider=provider, track=track).to_json()
    if to_json is not None:
        write_json(to_json, facts | {"models": {"a": str(a), "b": str(b)}})
    out.print(comparison_table(facts, str(a), str(b)))
    out.print(comparison_lines(facts))
